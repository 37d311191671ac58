from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.errors import (
    BatchRejectedError,
    BatchTooLargeError,
    CredentialsError,
    MisconfiguredError,
    RetryableError,
)
from fapilog.transport.answer import Answer, retry_after

AMBIGUOUS = {500, 502, 504, 505, 507, 520, 522, 524, 599, 999}


@pytest.mark.parametrize(
    ("error", "statuses"),
    [
        (None, [200, 201, 202, 204, 206, 299]),
        (RetryableError, [408, 425, 429, 503, *AMBIGUOUS]),
        (CredentialsError, [401, 403, 407]),
        (BatchTooLargeError, [413]),
        (MisconfiguredError, [300, 301, 302, 303, 304, 307, 308]),
        (MisconfiguredError, [402, 404, 405, 406, 410, 411, 414, 415, 421, 426, 431, 451, 501]),
        (BatchRejectedError, [400, 409, 412, 416, 417, 418, 422, 423, 424, 428, 499]),
    ],
)
def test_a_status_means_what_the_table_says(error: Any, statuses: list[int]) -> None:
    for status in statuses:
        answer = Answer("http://h", status)
        if error is None:
            answer.check()
            continue
        with pytest.raises(error) as raised:
            answer.check()
        assert type(raised.value) is error
        assert str(raised.value).startswith(f"http://h answered {status}")
        assert getattr(raised.value, "ambiguous", False) is (status in AMBIGUOUS), status


def test_a_sink_may_say_which_statuses_are_success() -> None:
    Answer("http://h", 200).check([200])
    Answer("http://h", 409).check([200, 409])
    with pytest.raises(MisconfiguredError) as raised:
        Answer("http://h", 200).check([204])
    assert raised.value.ambiguous  # it said that it went well, only not how
    with pytest.raises(MisconfiguredError) as raised:
        Answer("http://h", 302).check([204])
    assert not raised.value.ambiguous


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
def test_the_far_end_is_left_alone_as_long_as_it_asks(status: int) -> None:
    with pytest.raises(RetryableError) as raised:
        Answer("http://h", status, retry_after_seconds=7.0).check()
    assert raised.value.retry_after_seconds == 7.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"5", 5.0),
        (b" 5 ", 5.0),
        (b"3600", 60.0),
        (b"999999999999", 60.0),
        (b"", None),
        (b"-1", None),
        (b"1e9", None),
        (b"5.5", None),
        (b"abc", None),
        (b"9" * 5_000, None),
        (b"\xd9\xa5", None),
        (b"Wed, 21 Oct 2015 07:28:20 GMT", 20.0),
        (b"Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        (b"Wed, 21 Oct 2065 07:28:00 GMT", 60.0),
        (b"Wed, 21 Oct 2015 99:99:99 GMT", None),
        (b"Wed, 21 Oct 99999999999 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_anything_else_is_ignored(value: bytes, seconds: float | None) -> None:
    assert retry_after({b"retry-after": value, b"date": b"Wed, 21 Oct 2015 07:28:00 GMT"}) == seconds


def test_a_date_is_compared_with_our_clock_where_the_answer_has_none() -> None:
    assert retry_after({b"retry-after": b"Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after({b"retry-after": b"Wed, 21 Oct 2065 07:28:00 GMT", b"date": b"today"}) == 60.0


@given(st.binary(max_size=60) | st.text().map(str.encode), st.binary(max_size=60))
def test_retry_after_never_fails_and_never_asks_for_more_than_a_minute(value: bytes, date: bytes) -> None:
    found = retry_after({b"retry-after": value, b"date": date})
    assert found is None or 0.0 <= found <= 60.0
