import fcntl
import importlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fapilog.errors import ConfigurationError
from fapilog.files.compression import compress, open_log, parse_compression, tidy
from fapilog.files.names import SUFFIXES
from tests.programs import run

CONTENT = b"".join(b'{"event":"%d"}\n' % number for number in range(100_000))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("kind", SUFFIXES)
def test_what_was_compressed_reads_as_it_was_and_is_as_old_and_as_private(
    tmp_path: Path, directory: int, kind: str
) -> None:
    (tmp_path / "a.log").write_bytes(CONTENT)
    (tmp_path / "a.log").chmod(0o640)
    os.utime(tmp_path / "a.log", (1_000, 1_000))
    assert compress(directory, "a.log", kind)
    assert [path.name for path in tmp_path.iterdir()] == [f"a.log{SUFFIXES[kind]}"]
    packed = tmp_path / f"a.log{SUFFIXES[kind]}"
    with open_log(packed) as file:
        assert file.read() == CONTENT
    status = packed.stat()
    assert (status.st_mtime, status.st_mode & 0o777) == (1_000, 0o640)
    assert status.st_size < len(CONTENT) / 4


def test_an_uncompressed_file_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"one\n")
    with open_log(tmp_path / "a.log") as file:
        assert file.read() == b"one\n"


@pytest.mark.parametrize(
    ("given", "kind"), [("gz", "gz"), (" GZIP ", "gz"), (".xz", "xz"), ("zst", "zstd"), (None, None)]
)
def test_a_compression_has_one_name_and_some_that_people_write(given: str | None, kind: str | None) -> None:
    assert parse_compression(given) == kind


@pytest.mark.parametrize("given", ["rar", "", "tar.gz"])
def test_what_is_no_compression_is_named_beside_those_there_are(given: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{given}' is no compression; write one of gz, bz2, zip, xz, zstd"):
        parse_compression(given)


def test_a_compression_that_needs_a_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigurationError, match=r"zstd needs an extra: pip install 'fapilog\[zstd\]'"):
        parse_compression("zstd")
    with pytest.raises(ConfigurationError, match="'xz' cannot be used: lzma"):
        parse_compression("xz")


def test_a_copy_that_is_stopped_leaves_the_file_and_nothing_else(tmp_path: Path, directory: int) -> None:
    (tmp_path / "a.log").write_bytes(CONTENT)
    answers = iter([False, True])
    assert not compress(directory, "a.log", "gz", lambda: next(answers))
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]
    assert (tmp_path / "a.log").read_bytes() == CONTENT


def test_a_whole_copy_of_a_process_that_died_is_used(tmp_path: Path, directory: int) -> None:
    (tmp_path / "a.log").write_bytes(CONTENT)
    compress(directory, "a.log", "gz")
    before = (tmp_path / "a.log.gz").stat()
    (tmp_path / "a.log").write_bytes(CONTENT)
    assert compress(directory, "a.log", "gz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.log.gz"]
    assert (tmp_path / "a.log.gz").stat().st_ino == before.st_ino


@pytest.mark.parametrize("other", [b"no gzip at all", CONTENT[:1_000]])
def test_something_else_under_the_name_of_the_copy_is_never_overwritten(
    tmp_path: Path, directory: int, other: bytes
) -> None:
    (tmp_path / "a.log").write_bytes(other)
    if other == CONTENT[:1_000]:
        compress(directory, "a.log", "gz")
    else:
        (tmp_path / "a.log").rename(tmp_path / "a.log.gz")
    before = (tmp_path / "a.log.gz").read_bytes()
    (tmp_path / "a.log").write_bytes(CONTENT)
    with pytest.raises(FileExistsError, match="with something else in it"):
        compress(directory, "a.log", "gz")
    assert (tmp_path / "a.log").read_bytes() == CONTENT
    assert (tmp_path / "a.log.gz").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_two_processes_do_not_compress_the_same_file(tmp_path: Path, directory: int) -> None:
    (tmp_path / "a.log").write_bytes(CONTENT)
    met: list[bool] = []

    def meet() -> bool:
        if not met:
            met.append(compress(directory, "a.log", "gz"))  # another one, while this one is at it
            tidy(directory, "a.log.gz.tmp")
            met.append((tmp_path / "a.log.gz.tmp").exists())
        return False

    assert compress(directory, "a.log", "gz", meet)
    assert met == [False, True]
    assert [path.name for path in tmp_path.iterdir()] == ["a.log.gz"]


def test_an_unfinished_copy_nobody_works_at_is_removed(tmp_path: Path, directory: int) -> None:
    (tmp_path / "a.log.gz.tmp").write_bytes(b"half")
    tidy(directory, "a.log.gz.tmp")
    assert list(tmp_path.iterdir()) == []


def test_a_file_somebody_wrote_to_meanwhile_is_left_alone(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.log").write_bytes(CONTENT)

    fsync = os.fsync

    def append(fd: int) -> None:
        fsync(fd)
        with (tmp_path / "a.log").open("ab") as file:
            file.write(b"a late line\n")

    monkeypatch.setattr(os, "fsync", append)
    with pytest.raises(OSError, match="was written to"):
        compress(directory, "a.log", "gz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]


def test_a_line_that_is_just_being_written_is_waited_for(tmp_path: Path, directory: int) -> None:
    (tmp_path / "a.log").write_bytes(CONTENT)
    outcome: list[object] = []

    def try_to() -> None:
        try:
            outcome.append(compress(directory, "a.log", "gz"))
        except OSError as error:
            outcome.append(str(error))

    with (tmp_path / "a.log").open("ab", buffering=0) as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        compressing = threading.Thread(target=try_to, daemon=True)
        compressing.start()
        compressing.join(0.5)
        assert compressing.is_alive()
        writer.write(b"a late line\n")
    compressing.join(10)
    assert outcome == ["a.log was written to while it was being compressed"]
    assert (tmp_path / "a.log").read_bytes() == CONTENT + b"a late line\n"


def test_a_symbolic_link_is_neither_compressed_nor_written_through(tmp_path: Path, directory: int) -> None:
    (tmp_path / "secret").write_bytes(b"keep")
    (tmp_path / "a.log").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic"):
        compress(directory, "a.log", "gz")
    (tmp_path / "a.log").unlink()
    (tmp_path / "a.log").write_bytes(CONTENT)
    (tmp_path / "a.log.gz.tmp").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic"):
        compress(directory, "a.log", "gz")
    assert (tmp_path / "secret").read_bytes() == b"keep"
    assert (tmp_path / "a.log").read_bytes() == CONTENT


def test_a_full_disk_leaves_the_original_and_no_copy(tmp_path: Path) -> None:
    ended = run(
        """
            import os, resource, signal, sys
            from fapilog.files.compression import compress

            open(sys.argv[1] + "/a.log", "wb").write(os.urandom(100_000))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            try:
                compress(os.open(sys.argv[1], os.O_RDONLY), "a.log", "gz")
            except OSError as error:
                print(error.strerror)
        """,
        tmp_path,
    )
    assert ended.stdout == b"File too large\n", ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]
    assert (tmp_path / "a.log").stat().st_size == 100_000
