import os
import zipfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from fapilog import cli
from fapilog.files.compression import compress
from fapilog.files.names import SUFFIXES
from fapilog.files.reading import follow, last, lines, whole
from fapilog.sinks.file import FileSink
from fapilog.testing import make_batch


def numbered(*numbers: int) -> list[bytes]:
    return [b"%d\n" % number for number in numbers]


def stamped(tmp_path: Path, second: int, content: bytes, kind: str | None = None) -> Path:
    path = tmp_path / f"app.2026-01-01_00-00-{second:02d}_000000.log"
    path.write_bytes(content)
    if kind:
        directory = os.open(tmp_path, os.O_RDONLY)
        compress(directory, path.name, kind)
        os.close(directory)
        path = path.with_name(path.name + SUFFIXES[kind])
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    for second, kind in enumerate([None, *SUFFIXES]):
        stamped(tmp_path, second, b"".join(numbered(2 * second, 2 * second + 1)), kind)
    (tmp_path / "app.log").write_bytes(b"".join(numbered(12, 13)))
    return tmp_path / "app.log"


def test_a_log_is_read_through_all_that_was_put_aside_of_it(log: Path) -> None:
    assert list(whole(log)) == numbered(*range(14))


def test_a_file_and_its_compressed_copy_are_read_once(log: Path) -> None:
    stamped(log.parent, 1, b"".join(numbered(2, 3)))  # a process died before the original was gone
    assert list(whole(log)) == numbered(*range(14))


def test_half_a_line_of_a_killed_process_becomes_a_line(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_bytes(b"1\n2")
    assert list(lines(tmp_path / "app.log")) == last(tmp_path / "app.log", 5) == numbered(1, 2)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 14, 100])
def test_the_last_lines_come_from_as_many_files_as_they_are_in(log: Path, count: int) -> None:
    assert last(log, count) == numbered(*range(14))[14 - min(count, 14) :]


def test_the_end_of_a_large_file_is_found_whatever_the_lengths_of_its_lines(tmp_path: Path) -> None:
    content = [b"x" * length + b"\r\xe2\x80\xa8\n" for length in (10, 100_000, 0, 65_536, 65_535, 1, 200_000)]
    (tmp_path / "app.log").write_bytes(b"".join(content))
    for count in range(9):
        assert last(tmp_path / "app.log", count) == content[max(0, 7 - count) :]


def after(*steps: Callable[[], object]) -> Callable[[], None]:
    """Do one step each time there is nothing to read."""
    left = iter(steps)
    return lambda: (next(left)(), None)[1]


def test_following_goes_on_through_rotations_truncation_and_deletion(tmp_path: Path) -> None:
    sink = FileSink(path=tmp_path / "app.log", rotation=30)
    path = tmp_path / "app.log"

    def write(*numbers: int) -> None:
        for number in numbers:
            sink._file.write(b"%023d\n" % number, divisible=False)

    def compress_and_write() -> None:
        compress_all(tmp_path)
        write(10)

    write(1, 2)
    steps = after(
        lambda: write(3),
        lambda: write(4, 5, 6),  # three rotations at once
        lambda: None,
        lambda: write(7),
        path.unlink,
        lambda: write(8),
        lambda: path.write_bytes(b""),
        lambda: write(9),
        compress_and_write,
    )
    assert [int(line) for line in islice(follow(path, 1, pause=steps), 9)] == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    sink.close()


def compress_all(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    for path in tmp_path.glob("app.2*.log"):
        compress(directory, path.name, "gz")
    os.close(directory)


def test_following_waits_for_the_end_of_a_line_and_for_a_file_there_is_not_yet(tmp_path: Path) -> None:
    path = tmp_path / "app.log"

    def append(text: bytes) -> None:
        with path.open("ab") as file:
            file.write(text)

    steps = after(lambda: append(b"1"), lambda: append(b"2\n3"), lambda: append(b"\n"))
    assert list(islice(follow(path, 10, pause=steps), 2)) == [b"12\n", b"3\n"]


def test_cat_prints_files_and_what_was_put_aside(log: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.main(["cat", str(log), str(log.parent / "app.2026-01-01_00-00-01_000000.log.gz")]) == 0
    assert capfdbinary.readouterr().out == b"12\n13\n2\n3\n"
    assert cli.main(["cat", "--rotated", str(log)]) == 0
    assert capfdbinary.readouterr().out == b"".join(numbered(*range(14)))


def test_tail_prints_the_last_lines(log: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.main(["tail", str(log)]) == 0
    assert capfdbinary.readouterr().out == b"".join(numbered(*range(4, 14)))
    assert cli.main(["tail", "-n", "3", str(log)]) == 0
    assert capfdbinary.readouterr().out == b"".join(numbered(11, 12, 13))


def test_tail_follows_until_it_is_interrupted(
    log: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fapilog.files.reading.time.sleep", interrupt)
    assert cli.main(["tail", "-n", "1", "--follow", str(log)]) == cli.INTERRUPTED
    assert capfdbinary.readouterr().out == b"13\n"


def test_cat_goes_on_after_a_file_that_cannot_be_read(
    log: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert cli.main(["cat", str(tmp_path / "missing"), str(log), str(tmp_path)]) == cli.WRONG_INPUT
    said = capfdbinary.readouterr()
    assert said.out == log.read_bytes()
    assert said.err.count(b"fapilog: cannot read on: ") == 2


@pytest.mark.parametrize("names", [[], ["a.log", "b.log"]])
def test_an_archive_that_is_none_of_ours_is_said_to_be_so(
    tmp_path: Path, names: list[str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "app.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "line\n")
    assert cli.main(["cat", str(path)]) == cli.WRONG_INPUT
    assert f"app.zip' is damaged: it holds {len(names)} files, and not one".encode() in capfdbinary.readouterr().err


@pytest.mark.parametrize("suffix", SUFFIXES.values())
@pytest.mark.parametrize("damage", ["missing", "no such thing", "cut short", "one byte changed"])
def test_what_cannot_be_read_is_said_in_one_line(
    tmp_path: Path, suffix: str, damage: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    kind = next(kind for kind, each in SUFFIXES.items() if each == suffix)
    path = stamped(tmp_path, 1, b"".join(numbered(*range(10_000))), kind)
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "no such thing":
        path.write_bytes(b"this was never compressed")
    elif damage == "cut short":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    assert cli.main(["cat", str(path)]) == cli.WRONG_INPUT
    said = capfdbinary.readouterr().err
    assert said.startswith(b"fapilog: cannot read on: ")
    assert str(path).encode() in said
    assert said.count(b"\n") == 1


def test_a_log_with_braces_in_its_name_is_read_as_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "a{pid}{x}.log").write_bytes(b"1\n")
    assert list(whole(tmp_path / "a{pid}{x}.log")) == numbered(1)


def test_lines_come_in_the_order_they_were_written_whatever_the_clock_of_the_files(tmp_path: Path) -> None:
    sink = FileSink(path=tmp_path / "app.log", rotation=100)
    for number in range(20):
        sink.write(make_batch(f"{number}"))
    sink.close()
    events = [line.split(b'"event":"')[1].split(b'"')[0] for line in whole(tmp_path / "app.log")]
    assert events == [b"%d" % number for number in range(20)]
