"""The file sink: when it puts its file aside, what becomes of that, and that nothing is lost on the way."""

import gzip
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from fapilog import configure_logging, log
from fapilog.errors import BatchTooLargeError, ConfigurationError
from fapilog.files import keeper, shared
from fapilog.files.compression import compress
from fapilog.files.reading import whole
from fapilog.sinks.file import FileSink
from fapilog.testing import SinkContract, make_batch
from tests.programs import parse, run, start

LINE = make_batch("x" * 40)
SIZE = LINE.size_bytes


class TestARotatingFileSinkKeepsTheContract(SinkContract):
    def make_sink(self, tmp_path: Path) -> FileSink:
        return FileSink(path=tmp_path / "app.log", rotation="200 kB", compression="gz", fsync="batch")

    def read_lines(self, tmp_path: Path) -> list[bytes]:
        return list(whole(tmp_path / "app.log"))


def opened(tmp_path: Path, **options: Any) -> FileSink:
    sink = FileSink(path=tmp_path / "app.log", **options)
    sink.open()
    return sink


def rotated(tmp_path: Path) -> list[Path]:
    return sorted(path for path in tmp_path.iterdir() if path.name.startswith("app.2"))


def events(tmp_path: Path) -> list[str]:
    return [parse(line)["event"] for line in whole(tmp_path / "app.log")]


def wait_until(there: Callable[[], bool]) -> None:
    """Wait for a thread that has no other way to tell."""
    for _ in range(1_000):
        if there():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within ten seconds")


def begun_ago(sink: FileSink, seconds: float) -> None:
    """Let the file be that old, for whoever opens it next."""
    os.setxattr(sink.path, "user.fapilog.begun", repr(time.time() - seconds).encode())


# Putting aside


def test_a_file_never_grows_beyond_its_size(tmp_path: Path) -> None:
    sink = opened(tmp_path, rotation=SIZE * 3)
    for _ in range(7):
        sink.write(LINE)
    sink.close()
    assert [path.stat().st_size // SIZE for path in [*rotated(tmp_path), tmp_path / "app.log"]] == [3, 3, 1]
    assert (tmp_path / "app.log").stat().st_mode & 0o777 == 0o600
    assert rotated(tmp_path)[0].stat().st_mode & 0o777 == 0o600


def test_a_batch_larger_than_a_file_is_given_back_to_be_halved_and_a_record_that_is_has_a_file_of_its_own(
    tmp_path: Path,
) -> None:
    sink = opened(tmp_path, rotation=SIZE)
    with pytest.raises(BatchTooLargeError):
        sink.write(make_batch("a", "b" * 50))
    assert (tmp_path / "app.log").read_bytes() == b""
    sink.write(make_batch("a"))
    sink.write(make_batch("b" * 500))
    sink.write(make_batch("c"))
    sink.close()
    assert len(rotated(tmp_path)) == 2
    assert events(tmp_path) == ["a", "b" * 500, "c"]


def test_the_pipeline_fills_files_to_their_size(tmp_path: Path) -> None:
    with configure_logging(sinks=[{"type": "file", "path": tmp_path / "app.log", "rotation": "20 kB"}]) as handle:
        for number in range(1_000):
            log.info("order placed", order=number)
    stats = handle.stats().sinks["file"]
    assert (stats.delivered, stats.retries, dict(stats.dropped)) == (1_000, 0, {})
    assert all(16_000 < path.stat().st_size <= 20_000 for path in rotated(tmp_path))
    assert [parse(line)["order"] for line in whole(tmp_path / "app.log")] == list(range(1_000))


def test_a_thousand_rotations_overwrite_nothing(tmp_path: Path) -> None:
    sink = opened(tmp_path, rotation=SIZE)
    began = time.monotonic()
    for number in range(1_001):
        sink.write(make_batch(f"{number:040d}"))
    seconds = time.monotonic() - began
    sink.close()
    assert len(rotated(tmp_path)) == 1_000
    assert [int(event) for event in events(tmp_path)] == list(range(1_001))
    assert seconds < 5  # half of one on an idle machine


def test_two_rotations_at_one_moment_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_795_178_990.0)
    sink = opened(tmp_path, rotation=SIZE)
    for number in range(12):
        sink.write(make_batch(f"{number:040d}"))
    sink.close()
    assert len(rotated(tmp_path)) == 11
    assert [int(event) for event in events(tmp_path)] == list(range(12))


def test_an_old_file_is_put_aside_before_the_next_record(tmp_path: Path) -> None:
    sink = opened(tmp_path, rotation=["1 hour", "1 GB"])
    sink.write(make_batch("old"))
    begun_ago(sink, 3_500)
    sink.close()
    sink.open()
    sink.write(make_batch("not yet"))
    assert rotated(tmp_path) == []
    begun_ago(sink, 3_601)
    sink.close()
    sink.open()
    sink.write(make_batch("new"))
    sink.write(make_batch("newer"))
    sink.close()
    assert [path.read_bytes() for path in rotated(tmp_path)] == [
        make_batch("old").payload + make_batch("not yet").payload
    ]
    assert events(tmp_path) == ["old", "not yet", "new", "newer"]


@pytest.mark.parametrize("known_from", ["its first record", "its last change"])
def test_the_age_of_a_file_without_a_note_is_known(tmp_path: Path, known_from: str) -> None:
    path = tmp_path / "app.log"
    if known_from == "its first record":
        path.write_bytes(b"a header\n" + make_batch("of January").payload)
    else:
        path.write_bytes(b"level;event\ninfo;of January\n")
        os.utime(path, (1_767_225_600, 1_767_225_600))
    sink = opened(tmp_path, rotation="yearly" if time.gmtime().tm_year > 2026 else "1 day")
    sink.write(make_batch("new"))
    sink.close()
    assert len(rotated(tmp_path)) == 1
    assert path.read_bytes() == make_batch("new").payload


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize(
    "note",
    [b"nan", b"inf", b"-inf", b"1e300", b"-1e18", b"no time at all", b"99999999999"],
)
def test_a_note_of_the_age_that_cannot_be_is_not_believed(
    tmp_path: Path, note: bytes, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        path = tmp_path / "app.log"
        path.write_bytes(make_batch("of January").payload)
        os.setxattr(path, "user.fapilog.begun", note)
        sink = opened(tmp_path, rotation=["1 day", "yearly", "monday 12:00"])
        sink.write(make_batch("new"))
        sink.close()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert len(rotated(tmp_path)) == 1


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize(
    "timestamp",
    ["0001-01-01T00:00:00+00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999Z", "2999-01-01", "x", "[]"],
)
def test_a_first_record_of_a_time_that_cannot_be_is_not_believed(
    tmp_path: Path, timestamp: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        path = tmp_path / "app.log"
        path.write_text(f'{{"timestamp":"{timestamp}"}}\n')
        os.utime(path, (1_767_225_600, 1_767_225_600))
        sink = opened(tmp_path, rotation=["1 day", "yearly", "monday 12:00"])
        sink.write(make_batch("new"))
        sink.close()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert len(rotated(tmp_path)) == 1


def test_an_empty_file_is_not_put_aside(tmp_path: Path) -> None:
    sink = opened(tmp_path, rotation="1 hour")
    (tmp_path / "app.log").touch()
    begun_ago(sink, 7_200)
    sink.close()
    sink.open()
    sink.write(LINE)
    sink.close()
    assert rotated(tmp_path) == []


def test_a_function_decides_and_sees_what_is_written_and_where(tmp_path: Path) -> None:
    asked = []

    def should_rotate(text: str, file: BinaryIO) -> bool:
        asked.append((parse(text.encode())["event"], file.name, file.read()))
        return "new file" in text

    sink = opened(tmp_path, rotation=[should_rotate, timedelta(days=1)])
    for event in ("one", "two", "a new file, please", "four"):
        sink.write(make_batch(event))
    sink.close()
    assert [path.read_bytes() for path in rotated(tmp_path)] == [make_batch("one").payload + make_batch("two").payload]
    assert asked[0] == ("two", str(tmp_path / "app.log"), make_batch("one").payload)


def test_a_function_that_fails_is_reported_and_costs_no_record(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("no idea")

    sink = opened(tmp_path, rotation=[fails, SIZE * 2], header=fails, footer=fails, retention=fails)
    for _ in range(4):
        sink.write(LINE)
    sink._keeper.sweep()
    sink.close()
    said = capfd.readouterr().err
    assert said.count("failed: RuntimeError('no idea')") == 3
    assert len(events(tmp_path)) == 4


def should_rotate(text: str, file: BinaryIO) -> bool:
    return True


def should_not_rotate(text: str, file: BinaryIO) -> bool:
    return False


def test_options_come_by_uri_and_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"file://{tmp_path}/app.log?rotation=100MB&retention=10%20files&compression=gz"
    with configure_logging(sinks=[uri]) as handle:
        sink: Any = handle._runtime.worker.deliveries[0].sink
        assert (sink.rotation, sink.retention, sink.compression) == ("100MB", "10 files", "gz")
    monkeypatch.setenv("FAPILOG_FILE__PATH", str(tmp_path / "env.log"))
    monkeypatch.setenv("FAPILOG_FILE__ROTATION", f'["1 GB", "{__name__}:should_rotate"]')
    with configure_logging(sinks=["file"]) as handle:
        for _ in range(3):
            log.info("each record has a file of its own")
            handle.flush()
    assert len(list(tmp_path.glob("env.*"))) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": "soon"}, "'soon' does not say when to rotate; write a size"),
        ({"rotation": ["1 MB", "5 parsecs"]}, "'5 parsecs' does not say when to rotate"),
        ({"rotation": "["}, "is not JSON"),
        ({"rotation": True}, "option 'rotation': true does not say when to rotate"),
        ({"rotation": {"size": 5}}, "option 'rotation': {'size': 5} does not say when to rotate; write a size"),
        ({"rotation": "os:path"}, "'os:path' is no function but module"),
        ({"retention": True}, "option 'retention': true does not say what to keep"),
        ({"retention": 1.5}, "option 'retention': 1.5 does not say what to keep"),
        ({"header": "a,b,c"}, "'a,b,c' is no function; give one that takes a path"),
        ({"footer": "no.such.module:function"}, "no function at 'no.such.module:function'"),
        ({"retention": "some"}, "'some' does not say what to keep; write a count"),
        ({"compression": "rar"}, "'rar' is no compression; write one of gz, bz2, zip, xz, zstd"),
        ({"fsync": "often"}, "fsync"),
        ({"fsync_interval_seconds": 0}, "fsync_interval_seconds"),
        ({"rotation": "no.such.module:function"}, "no.such.module"),
    ],
)
def test_what_does_not_parse_is_named_and_stops_nothing_that_ran(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("[", r"\[")):
        configure_logging(sinks=[{"type": "file", "path": tmp_path / "app.log", **options}])
    assert list(tmp_path.iterdir()) == []


# Names


def test_the_path_may_name_the_service_the_process_and_the_day(tmp_path: Path) -> None:
    with configure_logging(service="shop", sinks=[f"file://{tmp_path}/%7Bservice%7D/%7Bpid%7D-%7Bdate%7D.log"]):
        log.info("hello", service="../../evil", pid="../1", date="..")
    today = time.strftime("%Y-%m-%d")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.log")] == [f"shop/{os.getpid()}-{today}.log"]


def test_a_new_day_begins_a_new_file_and_the_old_one_is_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.mktime((2026, 11, 20, 23, 59, 59, 0, 0, -1))
    monkeypatch.setattr(time, "time", lambda: now)
    sink = FileSink(path=tmp_path / "app-{date}.log", compression="gz")
    sink.write(make_batch("yesterday"))
    now += 2
    sink.write(make_batch("today"))
    sink._keeper.sweep()
    sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app-2026-11-20.log.gz", "app-2026-11-21.log"]
    assert gzip.decompress((tmp_path / "app-2026-11-20.log.gz").read_bytes()) == make_batch("yesterday").payload


def test_what_is_written_again_under_an_earlier_day_is_kept_beside_the_first(tmp_path: Path) -> None:
    sink = FileSink(path=tmp_path / "app-{date}.log", compression="gz")
    sink.write(make_batch("today"))
    for event in ("first", "second"):
        (tmp_path / "app-2026-01-01.log").write_bytes(make_batch(event).payload)
        sink._keeper.sweep()
    sink.close()
    packed = sorted(tmp_path.glob("*.gz"))
    assert [gzip.decompress(path.read_bytes()) for path in packed] == [
        make_batch("second").payload,
        make_batch("first").payload,
    ]
    assert [path.name for path in packed][1] == "app-2026-01-01.log.gz"


def test_the_file_of_a_living_process_is_neither_compressed_nor_removed(tmp_path: Path) -> None:
    dead = start("pass")
    dead.communicate()
    for pid in (os.getppid(), dead.pid):
        path = tmp_path / f"app-{pid}.log"
        path.write_bytes(LINE.payload)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    sink = FileSink(path=tmp_path / "app-{pid}.log", retention="0 files")
    sink.write(LINE)
    sink._keeper.sweep()
    sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"app-{os.getpid()}.log", f"app-{os.getppid()}.log"]
    )


# Compressing and retaining


@pytest.mark.parametrize("compression", ["gz", "bz2", "zip", "xz", "zstd"])
def test_what_is_put_aside_is_compressed_beside_the_writing(tmp_path: Path, compression: str) -> None:
    sink = opened(tmp_path, rotation=SIZE * 2, compression=compression)
    sink.start()
    for number in range(9):
        sink.write(make_batch(f"{number:040d}"))
    sink.close()
    assert {path.suffix for path in rotated(tmp_path)} == {".zst" if compression == "zstd" else f".{compression}"}
    assert [int(event) for event in events(tmp_path)] == list(range(9))


def test_a_slow_compression_holds_up_no_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(directory: int, name: str, kind: str, stop: Any) -> bool:
        begun.set()
        return go_on.wait(10)

    monkeypatch.setattr(keeper, "compress", slow)
    sink = opened(tmp_path, rotation=SIZE * 2, compression="gz")
    sink.start()
    for _ in range(3):
        sink.write(LINE)
    assert begun.wait(10)
    for _ in range(3):
        sink.write(LINE)
    assert len(rotated(tmp_path)) == 2
    go_on.set()
    sink.close()


def test_the_end_waits_a_moment_for_a_compression_and_leaves_it_to_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "ENDING_SECONDS", 0.2)
    sink = opened(tmp_path, rotation=8_000_000, compression="xz")
    sink.write(make_batch("x" * 4_000_000))
    (tmp_path / "app.log").write_bytes(os.urandom(7_999_000))
    sink.start()
    sink.write(make_batch("y" * 4_000_000))
    began = time.monotonic()
    sink.close()
    assert time.monotonic() - began < 3
    wait_until(lambda: [path.suffix for path in rotated(tmp_path)] == [".log"])
    later = opened(tmp_path, compression="gz")
    later.start()
    wait_until(lambda: [path.suffix for path in rotated(tmp_path)] == [".gz"])
    later.close()


def test_only_as_many_files_are_kept_as_were_asked_for(tmp_path: Path) -> None:
    strangers = ["app.log.1", "other.log", "app.2026.log", "app.2026-11-20.log"]
    for name in strangers:
        (tmp_path / name).write_bytes(LINE.payload)
    sink = opened(tmp_path, rotation=SIZE, retention="3 files")
    for number in range(10):
        sink.write(make_batch(f"{number:040d}"))
    sink._keeper.sweep()
    sink.close()
    kept = sorted(path.name for path in tmp_path.iterdir() if path.name not in (*strangers, "app.log"))
    assert len(kept) == 3
    assert {path.name for path in tmp_path.iterdir()} == {*strangers, *kept, "app.log"}
    assert [int(event) for event in events(tmp_path)] == [6, 7, 8, 9]


def test_a_function_retains_what_it_wants(tmp_path: Path) -> None:
    given: list[list[Path]] = []

    def retain(paths: list[Path]) -> None:
        given.append(paths)
        for path in paths[:1]:
            path.unlink()

    sink = opened(tmp_path, rotation=SIZE, retention=retain)
    for _ in range(4):
        sink.write(LINE)
    sink._keeper.sweep()
    sink.close()
    assert given[0] == sorted(given[0])
    assert {path.parent for path in given[0]} == {tmp_path}
    assert len(rotated(tmp_path)) == 3 - len([paths for paths in given if paths])


def test_old_files_go_when_the_next_process_starts(tmp_path: Path) -> None:
    path = tmp_path / "app.2026-01-01_00-00-00_000000.log.gz"
    path.write_bytes(b"old")
    os.utime(path, (1_767_225_600, 1_767_225_600))
    with configure_logging(sinks=[f"file://{tmp_path}/app.log?retention=7%20days"]):
        log.info("the first record starts the thread")
        wait_until(lambda: not path.exists())


# Headers and footers


def test_each_file_has_a_header_and_each_that_was_put_aside_a_footer(tmp_path: Path) -> None:
    sink = opened(
        tmp_path, rotation=SIZE * 2 + 30, header=lambda path: f"# {path.name} begins", footer=lambda _: b"# ends\n"
    )
    for _ in range(3):
        sink.write(LINE)
    sink.close()
    header = b"# app.log begins\n"
    assert rotated(tmp_path)[0].read_bytes() == header + LINE.payload * 2 + b"# ends\n"
    assert (tmp_path / "app.log").read_bytes() == header + LINE.payload


def test_a_second_process_writes_no_second_header(tmp_path: Path) -> None:
    for _ in range(2):
        sink = opened(tmp_path, header=lambda _: "# begins")
        sink.write(LINE)
        sink.close()
    assert (tmp_path / "app.log").read_bytes() == b"# begins\n" + LINE.payload * 2


# With other processes


def test_four_processes_rotate_one_file_and_lose_tear_and_double_nothing(tmp_path: Path) -> None:
    program = """
        import sys
        from fapilog import configure_logging, log

        uri = f"file://{sys.argv[1]}/app.log?rotation=100kB&compression=gz"
        with configure_logging(sinks=[uri], queue_overflow="block", block_timeout_seconds=50) as handle:
            for number in range(20_000):
                log.info("order placed", order=number)
        print(handle.stats().sinks["file"].delivered)
    """
    running = [start(program, tmp_path) for _ in range(4)]
    assert [program.communicate(timeout=120) for program in running] == [(b"20000\n", b"")] * 4
    seen: Counter[str] = Counter(parse(line)["id"] for line in whole(tmp_path / "app.log"))
    assert (seen.total(), len(seen)) == (80_000, 80_000)
    assert len({each.partition("-")[0] for each in seen}) == 4
    assert list(tmp_path.glob("*.tmp")) == []
    sizes = []
    for path in rotated(tmp_path):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        sizes.append(len(content))
        assert content.endswith(b"\n")
    assert max(sizes) <= 100_000
    assert len(sizes) < sum(sizes) / 100_000 * 1.5, "rotated before they were full"


def test_a_process_that_sat_idle_writes_to_the_new_file(tmp_path: Path) -> None:
    idle, busy = opened(tmp_path, rotation=SIZE * 2), opened(tmp_path, rotation=SIZE * 2)
    idle.write(make_batch("idle"))
    for _ in range(3):
        busy.write(LINE)
    directory = idle._file.open_directory()
    assert all(compress(directory, path.name, "gz") for path in rotated(tmp_path))
    os.close(directory)
    idle.write(make_batch("awake"))
    assert events(tmp_path)[-1] == "awake"
    assert len(events(tmp_path)) == 5
    idle.close()
    busy.close()


def test_whoever_rotates_waits_for_whoever_writes(tmp_path: Path) -> None:
    sink, other = opened(tmp_path, rotation=SIZE * 2), opened(tmp_path, rotation=SIZE * 2)
    sink.write(LINE)
    sink.write(LINE)
    other._file._take()  # another process is in the middle of a write
    rotating = threading.Thread(target=sink.write, args=(LINE,), daemon=True)
    rotating.start()
    rotating.join(0.3)
    assert rotating.is_alive()
    assert rotated(tmp_path) == []
    assert other._file._append(LINE.payload, SIZE * 2, durable=False)
    other._file._unlock()
    rotating.join(10)
    assert not rotating.is_alive()
    assert rotated(tmp_path)[0].stat().st_size == SIZE * 3
    sink.close()
    other.close()


def test_a_file_that_is_moved_while_it_is_put_aside_is_let_go(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def moved_once(path: Path) -> str:
        if not (tmp_path / "moved.log").exists():
            path.rename(tmp_path / "moved.log")
        return ""

    sink = opened(tmp_path, rotation=SIZE * 2, footer=moved_once)
    for _ in range(5):
        sink.write(LINE)
    sink.close()
    assert [path.stat().st_size for path in (tmp_path / "moved.log", *rotated(tmp_path))] == [SIZE * 2, SIZE * 2]
    assert (tmp_path / "app.log").read_bytes() == LINE.payload
    assert capfd.readouterr().err == ""


def test_a_file_that_is_moved_while_functions_are_asked_is_written_to_once_more(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def moves(text: str, file: BinaryIO) -> bool:
        if not (tmp_path / "moved.log").exists():
            Path(file.name).rename(tmp_path / "moved.log")
        return False

    sink = opened(tmp_path, rotation=[moves, should_not_rotate])
    for _ in range(3):
        sink.write(LINE)
    sink.close()
    assert (tmp_path / "moved.log").stat().st_size == SIZE * 2
    assert (tmp_path / "app.log").stat().st_size == SIZE
    assert capfd.readouterr().err == ""


def test_half_a_line_of_a_process_that_was_killed_is_ended_by_one_that_lives(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    sink.write(make_batch("one"))
    with (tmp_path / "app.log").open("ab") as file:
        file.write(b'{"event":"ha')
    sink.write(make_batch("two"))
    sink.close()
    assert (tmp_path / "app.log").read_bytes() == (
        make_batch("one").payload + b'{"event":"ha\n' + make_batch("two").payload
    )


@pytest.mark.parametrize("how", ["moved", "moved and made again", "copied and truncated", "deleted"])
def test_logrotate_loses_nothing_of_ours(tmp_path: Path, how: str) -> None:
    path = tmp_path / "app.log"
    kept = b""
    with configure_logging(sinks=[{"type": "file", "path": path, "rotation": "1 GB"}]) as handle:
        for number in range(300):
            log.info("order placed", order=number)
            if number % 50 == 49:
                handle.flush()
                if how.startswith("moved"):
                    path.rename(tmp_path / "app.log.1")
                    if how.endswith("again"):
                        path.touch(mode=0o600)
                    kept += (tmp_path / "app.log.1").read_bytes()
                else:
                    kept += path.read_bytes()
                    path.unlink() if how == "deleted" else os.truncate(path, 0)
    kept += path.read_bytes() if path.exists() else b""
    assert b"\0" not in kept
    assert [parse(line)["order"] for line in kept.splitlines(keepends=True)] == list(range(300))
    assert handle.stats().sinks["file"].delivered == 300


def test_a_batch_that_went_into_a_deleted_file_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = opened(tmp_path)
    write = os.write

    def delete_and_write(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        (tmp_path / "app.log").unlink()
        return write(fd, data)

    monkeypatch.setattr(os, "write", delete_and_write)
    sink.write(LINE)
    sink.close()
    assert (tmp_path / "app.log").read_bytes() == LINE.payload


def test_a_directory_that_became_a_symbolic_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    sink = FileSink(path=tmp_path / "logs" / "app.log", rotation=SIZE, compression="gz", retention=1)
    sink.write(LINE)
    (tmp_path / "logs").rename(tmp_path / "moved")
    (tmp_path / "logs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="logs"):
        sink.write(LINE)
    with pytest.raises(OSError, match="logs"):
        sink._keeper.sweep()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (tmp_path / "logs").unlink()
    sink.write(make_batch("after"))
    sink.close()
    assert events(tmp_path / "logs") == ["after"]


def test_a_directory_that_was_a_link_from_the_start_is_used(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "logs").symlink_to(tmp_path / "data")
    sink = opened(tmp_path / "logs", rotation=SIZE)
    sink.write(LINE)
    sink.write(LINE)
    sink.close()
    assert len(list((tmp_path / "data").iterdir())) == 2


def test_a_forked_child_lets_go_of_the_file_and_writes_its_own_records(tmp_path: Path) -> None:
    ended = run(
        """
            import os, sys
            from fapilog import configure_logging, log

            with configure_logging(sinks=[f"file://{sys.argv[1]}/app.log?rotation=2kB&compression=gz"]) as handle:
                for number in range(50):
                    log.info("parent", number=number)
                handle.flush()
                child = os.fork()
                for number in range(50):
                    log.info("child" if child == 0 else "parent", number=50 + number)
                if child:
                    assert os.waitpid(child, 0)[1] == 0
            fds = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
            left = [os.readlink(fd) for fd in fds if os.path.lexists(fd)]
            # What was being compressed when it forked stays open in the child.
            assert not [path for path in left if path.startswith(sys.argv[1]) and not path.endswith(".gz")], left
        """,
        tmp_path,
    )
    assert ended.stderr.decode() == ""
    assert ended.returncode == 0
    seen = Counter((parse(line)["event"], parse(line)["number"]) for line in whole(tmp_path / "app.log"))
    assert seen == Counter([("parent", n) for n in range(100)] + [("child", n) for n in range(50, 100)])


# Durability


def test_a_flush_reaches_what_was_put_aside_since_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []

    def note(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)

    sink = opened(tmp_path, rotation=SIZE)
    monkeypatch.setattr(os, "fsync", note)
    for _ in range(3):
        sink.write(LINE)
    assert synced == []
    sink.flush()
    assert sorted(synced) == sorted(path.stat().st_ino for path in [*rotated(tmp_path), tmp_path / "app.log"])
    synced.clear()
    sink.flush()
    assert synced == []
    sink.close()


def test_each_batch_is_brought_to_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(os, "fsync", lambda fd: sizes.append(os.fstat(fd).st_size))
    sink = opened(tmp_path, fsync="batch")
    sink.write(LINE)
    sink.write(LINE)
    assert sizes == [SIZE, SIZE * 2]
    sink.close()


def test_what_was_written_is_brought_to_disk_each_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = threading.Semaphore(0)
    monkeypatch.setattr(os, "fsync", lambda fd: synced.release())
    with configure_logging(
        sinks=[{"type": "file", "path": tmp_path / "app.log", "fsync": "interval", "fsync_interval_seconds": 0.05}]
    ):
        log.info("one")
        assert synced.acquire(timeout=10)
        time.sleep(0.2)
        assert not synced.acquire(blocking=False)  # nothing new, nothing to do
        log.info("two")
        assert synced.acquire(timeout=10)


def test_after_a_failed_fsync_the_batch_is_taken_back_and_goes_to_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = opened(tmp_path, fsync="batch")
    sink.write(make_batch("safe"))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="the disk"):
        sink.write(make_batch("unsure"))
    monkeypatch.undo()
    sink.write(make_batch("unsure"))
    sink.close()
    assert [path.read_bytes() for path in rotated(tmp_path)] == [make_batch("safe").payload]
    assert events(tmp_path) == ["safe", "unsure"]


def test_after_a_failed_fsync_beside_the_writing_a_new_file_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = opened(tmp_path, fsync="interval", fsync_interval_seconds=0.02)
    monkeypatch.setattr(os, "fsync", fail)
    sink.start()
    sink.write(make_batch("unsure"))
    wait_until(lambda: "begin a new file: [Errno 5] the disk" in capfd.readouterr().err)
    monkeypatch.undo()
    sink.write(make_batch("new"))
    sink.close()
    assert [path.read_bytes() for path in rotated(tmp_path)] == [make_batch("unsure").payload]
    assert events(tmp_path) == ["unsure", "new"]


def test_a_failed_flush_is_said_and_begins_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = opened(tmp_path)
    sink.write(make_batch("unsure"))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="the disk"):
        sink.flush()
    monkeypatch.undo()
    sink.write(make_batch("new"))
    sink.flush()
    sink.close()
    assert len(rotated(tmp_path)) == 1
    assert events(tmp_path) == ["unsure", "new"]


def test_the_pipeline_takes_the_size_of_batches_from_the_sink_unless_it_is_told(tmp_path: Path) -> None:
    def sizes(**options: Any) -> int:
        with configure_logging(sinks=[{"type": "file", "path": tmp_path / "app.log", **options}]) as handle:
            return int(handle._runtime.worker.deliveries[0]._batch_max_bytes)

    assert [sizes(), sizes(rotation="100 kB"), sizes(rotation="100 kB", batch_max_bytes=7)] == [524_288, 12_500, 7]


def fail(_fd: int) -> None:
    raise OSError(5, "the disk")


def test_a_plain_file_has_no_thread_and_no_file_beside_it(tmp_path: Path) -> None:
    before = threading.active_count()
    sink = opened(tmp_path)
    sink.start()
    sink.write(LINE)
    assert threading.active_count() == before
    assert [path.name for path in tmp_path.iterdir()] == ["app.log"]
    sink.close()


def test_a_system_without_locks_refuses_to_rotate_and_appends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "fcntl", None)
    sink = opened(tmp_path)
    sink.write(LINE)
    sink.close()
    with pytest.raises(ConfigurationError, match="this system has no flock, which rotation needs"):
        opened(tmp_path, rotation="1 MB")
    assert (tmp_path / "app.log").read_bytes() == LINE.payload
