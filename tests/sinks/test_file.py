import os
from pathlib import Path

import pytest

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


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "app.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        opened(tmp_path / "app.log")


def test_what_is_no_regular_file_is_refused_and_closed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(ConfigurationError, match="is not a regular file"):
        opened(tmp_path / "pipe")
    assert os.read(reader, 1) == b""  # the end of the file: nobody holds the other end
    os.close(reader)


def test_a_fifo_without_a_reader_fails_instead_of_hanging(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device"):
        opened(tmp_path / "pipe")


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
