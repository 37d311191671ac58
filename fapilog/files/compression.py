"""Compress a file that was put aside, beside the writing, and read it again whatever it is compressed with.

The copy is made under a name that ends in ``.tmp``, brought to disk, and renamed; only then does the original go. So
at every moment, a crash included, at least one whole copy is there.
"""

import contextlib
import gzip
import importlib
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, TypeAlias

from fapilog.errors import ConfigurationError, MissingExtraError
from fapilog.failpoints import hit
from fapilog.files.descriptors import closing
from fapilog.files.lock import OPEN_FLAGS, PRIVATE_FILE
from fapilog.files.names import SUFFIXES, UNFINISHED, exists

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing is put aside there, so nothing is compressed
    fcntl = None  # type: ignore[assignment]

CHUNK_BYTES: Final = 256 * 1024
_ZSTD: Final = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
_MODULES: Final = {"gz": "gzip", "bz2": "bz2", "zip": "zipfile", "xz": "lzma", "zstd": _ZSTD}
_ALIASES: Final = {"gzip": "gz", "bzip2": "bz2", "lzma": "xz", "zst": "zstd", "zstandard": "zstd"}

Stop: TypeAlias = Callable[[], bool]
"""Is asked between two pieces, and says whether to leave the rest for another time."""


def parse_compression(given: str | None) -> str | None:
    """Return the name of a compression as `SUFFIXES` has it.

    Raises:
        ConfigurationError: There is none of that name, or it needs a package that is not installed.
    """
    if given is None:
        return None
    name = given.strip().lower().removeprefix(".")
    name = _ALIASES.get(name, name)
    if name not in SUFFIXES:
        raise ConfigurationError(f"{given!r} is no compression; write one of {', '.join(SUFFIXES)}")
    try:
        _module(name)
    except ImportError as error:
        raise ConfigurationError(f"{given!r} cannot be used: {error}") from None
    return name


def open_log(path: Path) -> BinaryIO:
    """Open a file for reading its lines, decompressed as the end of its name says.

    Raises:
        OSError: It cannot be opened.
        MissingExtraError: It needs a package that is not installed.
    """
    kind = next((kind for kind, suffix in SUFFIXES.items() if path.name.endswith(suffix)), None)
    if kind is None:
        return path.open("rb")
    if kind == "zip":
        return _only_file(zipfile.ZipFile(path))  # type: ignore[return-value]
    opened: BinaryIO = _opener(kind)(path, "rb")
    return opened


def damages() -> tuple[type[Exception], ...]:
    """Return what reading a damaged file raises, an `OSError` without a number included."""
    found: list[type[Exception]] = [OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile]
    for name, error in (("lzma", "LZMAError"), (_ZSTD, "ZstdError")):
        if name in sys.modules:  # else nothing was read with it
            found.append(getattr(sys.modules[name], error))
    return tuple(found)


def compress(directory: int, name: str, kind: str, stop: Stop = lambda: False) -> bool:
    """Replace a file by a compressed copy; return False if that is left to another process, or for another time.

    Args:
        directory: The open directory it is in.
        name: What it is called there. Nobody may write to it any more.
        kind: One of `SUFFIXES`.
        stop: Is asked now and then whether to give up.

    Raises:
        OSError: It cannot be read, or the copy not be written; the file is as it was.
    """
    final = name + SUFFIXES[kind]
    unfinished = final + UNFINISHED
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_open_file(name, os.O_RDONLY, directory))
        copy = stack.enter_context(_open_file(unfinished, os.O_RDWR | os.O_CREAT, directory))
        if not _claim(copy, unfinished, directory):
            return False
        try:
            there = exists(final, directory)  # then a process was killed before the original was gone
            size = _same(source, kind, final, directory, stop) if there else _copy(source, copy, kind, name, stop)
            if size is None:
                return False
            fcntl.flock(source, fcntl.LOCK_EX)  # whoever was about to write to it has, or will find it gone
            if os.fstat(source).st_size != size:
                raise OSError(f"{name} was written to while it was being compressed")
            if not there:
                hit("file.compress.written")
                os.rename(unfinished, final, src_dir_fd=directory, dst_dir_fd=directory)
                os.fsync(directory)
                hit("file.compress.renamed")
            os.unlink(name, dir_fd=directory)
            return True
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished, dir_fd=directory)


def tidy(directory: int, name: str) -> None:
    """Remove an unfinished copy if the process that made it is gone."""
    with _open_file(name, os.O_RDWR, directory) as fd:
        if _claim(fd, name, directory):
            os.unlink(name, dir_fd=directory)


def _copy(source: int, copy: int, kind: str, name: str, stop: Stop) -> int | None:
    """Compress all of it, and return how many bytes that was; None if it was stopped."""
    before = os.fstat(source)
    os.ftruncate(copy, 0)
    done = 0
    with os.fdopen(os.dup(copy), "wb") as raw, _writer(raw, kind, name) as out:
        while piece := os.pread(source, CHUNK_BYTES, done):
            if stop():
                return None
            out.write(piece)
            done += len(piece)
            hit("file.compress.begun")
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))  # its age is that of what is in it
    os.fchmod(copy, before.st_mode & 0o777)
    os.fsync(copy)
    return done


def _same(source: int, kind: str, final: str, directory: int, stop: Stop) -> int | None:
    """Return how many bytes the original has, if the compressed file holds the same; None if it was stopped.

    Raises:
        FileExistsError: It holds something else.
    """
    done = 0
    with _open_file(final, os.O_RDONLY, directory) as fd, os.fdopen(os.dup(fd), "rb") as raw:
        try:
            with contextlib.closing(_reader(raw, kind)) as packed:
                while piece := packed.read(CHUNK_BYTES):
                    if stop():
                        return None
                    if os.pread(source, len(piece), done) != piece:
                        break
                    done += len(piece)
        except damages():
            done = -1
    if done != os.fstat(source).st_size:
        raise FileExistsError(f"{final} is there, with something else in it")
    return done


def _claim(fd: int, name: str, directory: int) -> bool:
    """Lock an unfinished copy; False if another process is at it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=directory, follow_symlinks=False))
    except (BlockingIOError, FileNotFoundError):
        return False


def _open_file(name: str, flags: int, directory: int) -> contextlib.AbstractContextManager[int]:
    return closing(os.open(name, flags | OPEN_FLAGS, PRIVATE_FILE, dir_fd=directory))


@contextlib.contextmanager
def _writer(raw: BinaryIO, kind: str, name: str) -> Iterator[Any]:
    if kind == "zip":
        with (
            zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open(name, "w", force_zip64=True) as out,
        ):
            yield out
    elif kind == "gz":
        with gzip.GzipFile("", "wb", 6, raw, mtime=0) as out:
            yield out
    elif kind == "zstd":
        options = {_module("zstd").CompressionParameter.checksum_flag: 1}
        with _module("zstd").open(raw, "wb", options=options) as out:
            yield out
    else:
        with _opener(kind)(raw, "wb") as out:
            yield out


def _reader(raw: BinaryIO, kind: str) -> IO[bytes]:
    if kind == "zip":
        return _only_file(zipfile.ZipFile(raw))
    opened: IO[bytes] = _opener(kind)(raw, "rb")
    return opened


def _only_file(archive: zipfile.ZipFile) -> IO[bytes]:
    names = archive.namelist()
    if len(names) != 1:
        raise zipfile.BadZipFile(f"it holds {len(names)} files, and not one")
    return archive.open(names[0])


def _opener(kind: str) -> Callable[..., Any]:
    opener: Callable[..., Any] = _module(kind).open
    return opener


def _module(kind: str) -> Any:
    """Return what reads and writes a compression; not every Python was built with all of them.

    Raises:
        MissingExtraError: It is a package that is not installed: the standard library has zstd since Python 3.14.
        ImportError: This Python was built without it.
    """
    try:
        return importlib.import_module(_MODULES[kind])
    except ImportError as error:
        if kind == "zstd":
            raise MissingExtraError("compression with zstd", extra="zstd") from error
        raise
