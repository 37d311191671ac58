import pytest

from fapilog.errors import BatchTooLargeError, DeliveryError, MisconfiguredError, RetryableError
from fapilog.loki.answers import Reading, read
from fapilog.loki.push import Entry, Push
from fapilog.loki.streams import Stream
from fapilog.transport.answer import Answer

NS = 10**9
AT = 1_795_000_000 * NS  # 2026-11-18T11:06:40Z
ONE, OTHER = (Stream({"app": name}, is_overflow=False) for name in ("a", "b"))
RATE = (
    "ngestion rate limit exceeded for user fake (limit: {} bytes/sec) while attempting to ingest '3' lines totaling "
    "'6' bytes, reduce log volume or contact your Loki administrator to see if the limit can be increased"
)

TOO_OLD = (
    "entry for stream '{app=\"a\"}' has timestamp too old: 2026-11-18T11:06:40Z, "
    "oldest acceptable timestamp is: 2026-11-18T11:06:41Z"
)


def push(*streams: Stream, count: int = 3) -> Push:
    return {
        stream: [Entry(10 * number + each, AT + each * NS, b"xx", ()) for each in range(count)]
        for number, stream in enumerate(streams or (ONE,))
    }


def reading(said: str, *streams: Stream, status: int = 400, count: int = 3) -> Reading:
    return read(Answer("http://loki:3100", status, body=said.encode()), push(*streams, count=count))


@pytest.mark.parametrize(
    ("status", "said", "raised", "ambiguous"),
    [
        (429, "I" + RATE.format(1_000), RetryableError, False),
        (429, "i" + RATE.format(1_000), RetryableError, False),
        (429, "i" + RATE.format(5), BatchTooLargeError, None),
        (429, "Per stream rate limit exceeded (limit: 3MB/sec)", RetryableError, True),
        (429, "too many outstanding requests", RetryableError, True),
        (260, "ingestion blocked for user fake until 'x' with status code '260'", MisconfiguredError, False),
        (400, "snappy: corrupt input", MisconfiguredError, False),
        (400, 'Content-Encoding "zstd" not supported', MisconfiguredError, False),
        (400, "EOF", MisconfiguredError, False),
        (422, "error at least one valid stream is required for ingestion", DeliveryError, None),
        (413, "request body too large", BatchTooLargeError, None),
        (503, "", RetryableError, False),
        (500, "", RetryableError, True),
        (200, "", MisconfiguredError, True),
    ],
)
def test_what_is_raised(status: int, said: str, raised: type[Exception], ambiguous: bool | None) -> None:
    with pytest.raises(raised) as caught:
        reading(said, status=status)
    assert getattr(caught.value, "ambiguous", None) is ambiguous
    assert "fake" not in str(caught.value), "an answer may echo what was sent"


def test_a_record_alone_above_the_rate_is_waited_for() -> None:
    with pytest.raises(RetryableError):
        reading("I" + RATE.format(1), status=429, count=1)


def test_one_that_is_refused_alone_is_the_one() -> None:
    assert reading("whatever", count=1) == Reading("partly", frozenset({0}))


def test_of_one_stream_the_oldest_are_too_far_behind() -> None:
    said = "entry ... 'entry too far behind, ...',\nuser 'fake', total ignored: 2 out of 3 for stream: {app=\"a\"}"
    assert reading(said).refused == {0, 1}


@pytest.mark.parametrize("of", [2, 4])
def test_a_count_that_is_not_ours_is_not_believed(of: int) -> None:
    said = f"'entry too far behind',\nuser 'fake', total ignored: 1 out of {of} for stream: {{app=\"a\"}}"
    assert reading(said).refused == frozenset()
    assert [len(entries) for part in reading(said).doubtful for entries in part.values()] == [1, 2]


def test_of_two_streams_each_is_asked_alone() -> None:
    said = "'entry too far behind',\nuser 'fake', total ignored: 3 out of 3 for stream: {app=\"b\"}"
    assert [list(part) for part in reading(said, ONE, OTHER).doubtful] == [[ONE], [OTHER]]


def test_an_age_said_to_the_second_leaves_that_second_in_doubt() -> None:
    for text in (TOO_OLD, f"2 errors: {TOO_OLD}; {TOO_OLD}"):
        found = reading(text, count=5)
        assert found.refused == {0}
        assert [entry.position for _, entry in found.by_age] == [1, 2]
        assert found.doubtful == []


def test_what_is_older_than_one_that_is_too_new_is_in_doubt() -> None:
    found = reading("entry for stream '{app=\"a\"}' has timestamp too new: 2026-11-18T11:06:42Z", count=5)
    assert found.refused == {3, 4}
    assert [entry.position for _, entry in found.by_age] == [2, 1, 0]


def test_two_reasons_at_once_are_told_apart_by_asking() -> None:
    for said in (f"{TOO_OLD}; stream '{{app=\"a\"}}' has label value too long: 'x'", f"2 errors: {TOO_OLD}; anything"):
        assert reading(said).refused == frozenset()
        assert len(reading(said).doubtful) == 2


@pytest.mark.parametrize(
    "said", ["Max entry size '100' bytes exceeded for", "x; max entry size '100' bytes exceeded for"]
)
def test_the_limit_of_a_line_is_read(said: str) -> None:
    assert reading(said) == Reading("too_long", max_line_bytes=100)
