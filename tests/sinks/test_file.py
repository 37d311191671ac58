import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fapilog import configure_logging
from fapilog.errors import ConfigurationError
from fapilog.sinks.file import FileSink
from fapilog.testing import SinkContract, make_batch
from tests.programs import parse_all, run, start


def test_a_relative_path_is_that_of_the_moment_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sink = FileSink(path=Path("app.log"))
    sink.open()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    sink.write(make_batch("one"))
    sink.close()
    assert (tmp_path / "app.log").read_bytes() == make_batch("one").payload


class TestFileSinkKeepsTheContract(SinkContract):
    def make_sink(self, tmp_path: Path) -> FileSink:
        return FileSink(path=tmp_path / "app.log")

    def read_lines(self, tmp_path: Path) -> list[bytes]:
        path = tmp_path / "app.log"
        return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def opened(path: Path) -> FileSink:
    sink = FileSink(path=path)
    sink.open()
    return sink


def test_the_file_and_its_directory_are_private(tmp_path: Path) -> None:
    opened(tmp_path / "logs" / "app.log").close()
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "logs" / "app.log").stat().st_mode & 0o777 == 0o600


def test_a_torn_line_that_an_earlier_process_left_is_ended(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_bytes(b'{"event":"whole"}\n{"event":"to')
    sink = opened(tmp_path / "app.log")
    sink.write(make_batch("new"))
    sink.close()
    assert (tmp_path / "app.log").read_bytes() == b'{"event":"whole"}\n{"event":"to\n' + make_batch("new").payload


def test_what_looks_torn_while_another_sink_writes_is_left_alone(tmp_path: Path) -> None:
    writing = opened(tmp_path / "app.log")
    (tmp_path / "app.log").write_bytes(b'{"event":"half of a wri')
    opened(tmp_path / "app.log").close()
    assert (tmp_path / "app.log").read_bytes() == b'{"event":"half of a wri'
    writing.close()


@pytest.mark.parametrize("gone", ["moved", "deleted", "its directory deleted"])
def test_a_file_that_was_taken_away_is_made_anew(tmp_path: Path, gone: str) -> None:
    path = tmp_path / "logs" / "app.log"
    sink = opened(path)
    sink.write(make_batch("old"))
    if gone == "moved":
        path.rename(tmp_path / "old.log")
    else:
        path.unlink()
    if gone == "its directory deleted":
        path.parent.rmdir()
    sink.write(make_batch("new"))
    sink.close()
    assert path.read_bytes() == make_batch("new").payload
    if gone == "moved":
        assert (tmp_path / "old.log").read_bytes() == make_batch("old").payload


def make_link(path: Path) -> None:
    (path.parent / "elsewhere").touch()
    path.symlink_to(path.parent / "elsewhere")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


KINDS: dict[str, Callable[[Path], Any]] = {
    "a directory": Path.mkdir,
    "a symbolic link": make_link,
    "a FIFO": os.mkfifo,
    "a socket": make_socket,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_named_for_what_it_is(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    KINDS[kind](Path("app.log"))
    with pytest.raises(ConfigurationError, match=f"app.log' is {kind}; give the path of a regular file"):
        configure_logging(sinks=[{"type": "file", "path": tmp_path / "app.log"}])
    assert not (tmp_path / "elsewhere").exists() or (tmp_path / "elsewhere").read_bytes() == b""


@pytest.mark.parametrize("kind", ["a file", "a FIFO", "a symbolic link"])
def test_what_stands_where_its_directory_should_be_is_named(tmp_path: Path, kind: str) -> None:
    above = tmp_path / "logs"
    if kind == "a file":
        above.touch()
    elif kind == "a FIFO":
        os.mkfifo(above)
    else:
        above.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match=f"logs' is {kind}; 'app.log' needs a directory"):
        configure_logging(sinks=[{"type": "file", "path": above / "of" / "app.log"}])


@pytest.mark.parametrize(
    ("path", "message"), [("a\0b.log", r"'a\\x00b.log' holds a NUL"), ("~nobody-at-all/app.log", "a user there is not")]
)
def test_what_can_be_no_path_is_named(path: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        configure_logging(sinks=[{"type": "file", "path": path}])


def test_a_device_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'/dev/null' is a device"):
        configure_logging(sinks=["file:///dev/null"])


def test_a_pipe_somebody_reads_is_refused_and_closed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(ConfigurationError, match="is a FIFO"):
        opened(tmp_path / "pipe")
    assert os.read(reader, 1) == b""  # the end of the file: nobody holds the other end
    os.close(reader)


@pytest.mark.parametrize("kind", KINDS)
def test_what_takes_the_place_of_the_file_is_not_written_to_and_may_go_again(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "app.log"
    sink = opened(path)
    path.unlink()
    KINDS[kind](path) if kind != "a socket" else make_link(path)
    with pytest.raises(OSError, match=str(path)):
        sink.write(make_batch("one"))
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    sink.write(make_batch("two"))
    sink.close()
    assert path.read_bytes() == make_batch("two").payload
    assert not (tmp_path / "elsewhere").exists() or (tmp_path / "elsewhere").read_bytes() == b""


def test_a_batch_the_disk_takes_only_in_part_leaves_nothing_behind(tmp_path: Path) -> None:
    ended = run(
        """
            import resource, signal, sys
            from pathlib import Path
            from fapilog.sinks.file import FileSink
            from fapilog.testing import make_batch

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            sink = FileSink(path=Path(sys.argv[1]))
            sink.open()
            sink.write(make_batch("fits"))
            try:
                sink.write(make_batch("x" * 20_000))
            except OSError as error:
                print(error.strerror)
            sink.write(make_batch("fits"))
        """,
        tmp_path / "app.log",
    )
    assert ended.stdout == b"File too large\n"
    assert (tmp_path / "app.log").read_bytes() == make_batch("fits").payload * 2


def test_a_flush_before_anything_was_written_does_no_harm(tmp_path: Path) -> None:
    FileSink(path=tmp_path / "app.log").flush()


def test_four_processes_share_a_file_and_tear_no_line(tmp_path: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        from fapilog.sinks.file import FileSink
        from fapilog.testing import make_batch

        for number in range(40):
            sink = FileSink(path=Path(sys.argv[1]))
            sink.open()
            sink.write(make_batch(f"{sys.argv[2]}-{number}" + "x" * 50_000))
            sink.close()
    """
    running = [start(program, tmp_path / "app.log", process) for process in range(4)]
    assert [program.communicate(timeout=60) for program in running] == [(b"", b"")] * 4
    records = parse_all((tmp_path / "app.log").read_bytes())
    assert sorted(record["event"].rstrip("x") for record in records) == sorted(
        f"{process}-{number}" for process in range(4) for number in range(40)
    )
