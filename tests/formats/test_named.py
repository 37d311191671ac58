import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from fapilog import configure_logging, log
from fapilog.errors import ConfigurationError
from fapilog.formats import KNOWN, Formatter, format_name
from fapilog.sinks.file import FileSink
from fapilog.sinks.http import HttpSink
from fapilog.sinks.stdout import StdoutSink
from fapilog.testing import make_batch
from fapilog.types import Batch, Record
from tests.formats.records import NAMED, line_of


def of_ours(record: dict[str, Any]) -> Any:
    """A format of a user's, which can do every wrong there is."""
    event = record["event"]
    if event == "raise":
        raise RuntimeError("no")
    return {"dict": {"said": event, "id": record["id"]}, "bytes": b"raw", "none": None}.get(
        event, f"<{event}>\nlevel=error\x1b[2J\n"
    )


async def later(record: dict[str, Any]) -> str:
    return str(record)


class Whole:
    """A format that is an object."""

    def __call__(self, record: dict[str, Any]) -> bytes:
        return f"é{record['event']}".encode()


OURS = f"{__name__}:of_ours"


def test_each_known_format_makes_as_many_lines_as_there_are_records() -> None:
    batch = Batch([Record(20, 0, line_of(record)) for record in NAMED])
    for name in KNOWN:
        assert len(Formatter(name).lines(batch)) == len(NAMED), name


def test_json_is_the_canonical_line_untouched() -> None:
    batch = make_batch("one", "two")
    assert Formatter("json").payload(batch) == batch.payload
    assert Formatter("json").lines(batch) == batch.lines


def test_a_user_s_function_is_a_format_whose_records_are_one_line_each() -> None:
    lines = Formatter(OURS).lines(make_batch("one", "dict", "bytes"))
    assert lines == [b"<one>\\x0alevel=error\\x1b[2J\n", b'{"said":"dict","id":"1"}\n', b"raw\n"]


def test_a_function_itself_is_a_format_too(tmp_path: Path) -> None:
    sinks = [
        {"type": "file", "name": "one", "path": tmp_path / "one", "format": lambda record: record["event"].upper()},
        {"type": "file", "name": "two", "path": tmp_path / "two", "format": Whole()},
    ]
    with configure_logging(sinks=sinks):
        log.info("placed")
    assert [(tmp_path / name).read_text() for name in ("one", "two")] == ["PLACED\n", "éplaced\n"]


def test_a_function_is_called_by_its_name_when_it_fails(capfd: pytest.CaptureFixture[str]) -> None:
    assert Formatter(of_ours).lines(make_batch("raise")) == make_batch("raise").lines
    assert "the format 'of_ours' cannot hold a record" in capfd.readouterr().err


def test_a_record_that_is_sent_again_is_counted_once() -> None:
    formatter = Formatter(of_ours)
    for batch in (make_batch("raise", "fine"), make_batch("raise", "fine"), make_batch("fine", "raise")):
        formatter.lines(batch)
    assert formatter.failed == 2


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, RecursionError, StopIteration])
def test_whatever_a_function_raises_costs_no_record(raised: type[BaseException]) -> None:
    def fail(_record: dict[str, Any]) -> str:
        raise raised("no")

    formatter = Formatter(fail)
    assert formatter.lines(make_batch("one", "two")) == make_batch("one", "two").lines
    assert formatter.failed == 2


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (7, "int is not a format; give a function that takes a record as a dict"),
        (Whole, "type is not a format"),
        (None, "NoneType is not a format"),
        (later, "function is a coroutine function; give an ordinary one"),
    ],
)
def test_what_is_neither_text_nor_a_function_is_refused(given: Any, why: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        configure_logging(sinks=[{"type": "file", "path": "a.log", "format": given}])
    assert f"option 'format': {why[0].lower()}{why[1:]}" in str(error.value)
    with pytest.raises(ConfigurationError):
        configure_logging(sinks=["stdout"], stdout={"format": given})


def test_a_record_that_a_format_cannot_hold_is_written_as_json_counted_and_said_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    formatter = Formatter(OURS)
    batch = make_batch("raise", "none", "raise", "fine")
    assert formatter.lines(batch) == [*batch.lines[:3], b"<fine>\\x0alevel=error\\x1b[2J\n"]
    assert formatter.failed == 3
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert "which is written as JSON instead: RuntimeError: no" in said[0]


@pytest.mark.parametrize(("said", "name"), [("ECS", "ecs"), ("json", "json"), (OURS, OURS)])
def test_a_name_may_be_in_any_case(said: str, name: str) -> None:
    assert format_name(said) == name


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            "xml",
            "got 'xml'; known: csv, datadog, ecs, gcp, json, logfmt, otel, pretty, 'module:function', "
            "or a template such as '{timestamp} {level:8} {event}'",
        ),
        ("nowhere:f", "no format at 'nowhere:f': No module named 'nowhere'; write 'module:function'"),
        (f"{__name__}:nothing", "has no attribute 'nothing'"),
        (f"{__name__}:KNOWN", "is not a format; give a function"),
        ("json:JSONDecoder", "is not a format; give a function"),
        (f"{__name__}:later", f"'{__name__}:later' is a coroutine function"),
        (":", "no format at ':'"),
    ],
)
def test_a_name_that_is_none_is_an_error_that_lists_those_that_are(said: str, why: str) -> None:
    with pytest.raises(ValueError) as problem:  # noqa: PT011 - the message is looked at below
        format_name(said)
    assert why in str(problem.value)
    with pytest.raises(ConfigurationError) as error:
        configure_logging(sinks=["stdout"], stdout={"format": said})
    assert why.replace("known: ", "known: auto, ") in str(error.value)
    with pytest.raises(ConfigurationError) as error:
        configure_logging(sinks=[{"type": "file", "path": "a.log", "format": said}])
    assert why in str(error.value)


def test_a_formatter_of_no_known_name_says_so() -> None:
    with pytest.raises(ConfigurationError, match="got 'xml'; known: csv"):
        Formatter("xml")
    with pytest.raises(ConfigurationError, match="write 'module:function'"):
        Formatter("nowhere:f")


def test_the_count_is_in_the_statistics(tmp_path: Path) -> None:
    with configure_logging(sinks=[{"type": "file", "path": tmp_path / "a.log", "format": OURS}]) as handle:
        log.info("raise")
        log.info("fine")
        assert handle.flush().ok
        assert handle.stats().sinks["file"].unformatted == 1
        assert handle.stats().sinks["file"].delivered == 2


def test_the_file_sink_has_the_format_of_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FAPILOG_FILE__FORMAT", "ecs")
    with configure_logging(sinks=[f"file://{tmp_path}/ecs.log", f"duckdb://{tmp_path}/store"], service="shop"):
        log.info("order placed", order_id=7)
    made = orjson.loads((tmp_path / "ecs.log").read_bytes())
    assert (made["message"], made["fapilog"], made["service"]) == ("order placed", {"order_id": 7}, {"name": "shop"})
    stored = [line for path in (tmp_path / "store").rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert [orjson.loads(line)["event"] for line in stored] == ["order placed"]


def test_stdout_has_the_format_of_its_variable() -> None:
    program = "import fapilog; fapilog.configure_logging(sinks=['stdout']); fapilog.log.info('placed', n=7)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "FAPILOG_STDOUT__FORMAT": "logfmt"},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert b" level=info event=placed logger=root n=7 " in done.stdout
    assert done.stderr == b""


def test_a_csv_file_has_its_header_once_whoever_opens_it_again(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    sinks = [FileSink(path=path, format="csv") for _ in range(2)]
    for sink in sinks:
        sink.open()
        sink.write(make_batch("one"))
    sinks[0].close()
    sinks[0].write(make_batch("two"))
    for sink in sinks:
        sink.close()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 4
    assert [line.startswith(b"timestamp,level,event,") for line in lines] == [True, False, False, False]


def test_a_csv_file_that_was_moved_away_begins_again_with_the_header(tmp_path: Path) -> None:
    sink = FileSink(path=tmp_path / "log.csv", format="csv")
    sink.open()
    sink.write(make_batch("one"))
    (tmp_path / "log.csv").rename(tmp_path / "old.csv")
    sink.write(make_batch("two"))
    sink.close()
    for name in ("log.csv", "old.csv"):
        assert (tmp_path / name).read_bytes().startswith(b"timestamp,")
        assert len((tmp_path / name).read_bytes().splitlines()) == 2


def test_a_csv_file_that_was_truncated_begins_again_with_the_header(tmp_path: Path) -> None:
    """As logrotate does it with copytruncate, to a file of ours and to one behind a redirection."""
    with (tmp_path / "out.csv").open("ab", buffering=0) as out:
        for name, sink in (
            ("log.csv", FileSink(path=tmp_path / "log.csv", format="csv")),
            ("out.csv", StdoutSink(fd=out.fileno(), format="csv")),
        ):
            sink.open()
            for event in ("one", "two", "three"):
                sink.write(make_batch(event))
                if event == "one":
                    os.truncate(tmp_path / name, 0)
            sink.close()
            lines = (tmp_path / name).read_bytes().splitlines(keepends=True)
            assert lines[0] == Formatter("csv").header, name
            assert [line.split(b",")[2] for line in lines[1:]] == [b"two", b"three"], name


def test_a_csv_stream_has_its_header_once(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb", buffering=0) as file:
        sink = StdoutSink(fd=file.fileno(), format="csv")
        sink.open()
        sink.write(make_batch("one"))
        sink.write(make_batch("two"))
        sink.close()
    assert [line[:10] for line in (tmp_path / "out").read_bytes().splitlines()] == [
        b"timestamp,",
        b"2026-01-01",
        b"2026-01-01",
    ]


def test_an_array_holds_nothing_but_json() -> None:
    HttpSink(endpoint="http://localhost:1/", format="array", record_format="datadog")
    with pytest.raises(ValueError, match="an array holds JSON, which csv is not; use the format 'jsonl'"):
        HttpSink(endpoint="http://localhost:1/", format="array", record_format="csv")


def test_no_format_is_loaded_before_it_is_used() -> None:
    program = "import sys, fapilog, fapilog.sinks.file; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        timeout=60,
        check=True,
        text=True,
    )
    assert not {"fapilog.formats.otel", "fapilog.formats.ecs", "fapilog.formats.csv"} & set(done.stdout.split())
