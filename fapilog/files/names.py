"""What the files of one log are called: the current one, those put aside, and those compressed.

``app.log`` is put aside as ``app.2026-11-20_12-49-50_123456.log``, the moment being that of the rotation in UTC, and
compressed as ``app.2026-11-20_12-49-50_123456.log.gz``. Names are made of the path that was configured and of the
clock; nothing that was logged is ever part of one.
"""

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from fapilog.errors import ConfigurationError
from fapilog.files.lock import OPEN_FLAGS, PRIVATE_FILE

SUFFIXES: Final = {"gz": ".gz", "bz2": ".bz2", "zip": ".zip", "xz": ".xz", "zstd": ".zst"}
"""Every compression, and what it appends to a name."""

UNFINISHED: Final = ".tmp"
"""What a name ends in while its file is being made."""

_CLAIM_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN_FLAGS
_TOKEN: Final = re.compile(r"\{([^{}]*)\}")
_NOTHING: Final = re.compile(r"(?!)()")
_STAMP: Final = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d{6}"
_PATTERNS: Final = {"pid": r"\d+", "date": r"\d{4}-\d\d-\d\d"}


@dataclass(frozen=True)
class Member:
    """One file of a log, as it was found in its directory."""

    name: str
    stamp: str
    """When it was put aside, and which one of that moment; empty if it was not."""

    date: str
    """The ``{date}`` in its name, if there is one."""

    pid: str
    """The ``{pid}`` in its name, if there is one."""

    compression: str
    """The end of its name that says how it is compressed; empty if it is not."""

    unfinished: bool
    """Whether somebody is compressing into it, or has died while doing so."""

    status: os.stat_result

    @property
    def age(self) -> tuple[int, str, str]:
        """Sorts members, oldest first."""
        return self.status.st_mtime_ns, self.stamp, self.name


class Names:
    """The names of one log: where it is, what its current file is called, and which files belong to it."""

    def __init__(self, path: Path, *, service: str | None = None, literal: bool = False) -> None:
        """Take a path; unless it is *literal*, ``{pid}``, ``{service}`` and ``{date}`` in it stand for what they name.

        Raises:
            ConfigurationError: There is another token, ``{date}`` is not in the name of the file but above it, or
                ``{service}`` is used and *service* is None.
        """
        self.template = str(path)
        self._token = _NOTHING if literal else _TOKEN
        found = set(self._token.findall(self.template))
        if unknown := sorted(found - {"pid", "service", "date"}):
            raise ConfigurationError(
                f"path {self.template!r} holds {{{unknown[0]}}}; known: {{pid}}, {{service}}, {{date}}"
            )
        if "date" in self._token.findall(str(path.parent)):
            raise ConfigurationError(f"path {self.template!r} holds {{date}} above the file; put it in the file's name")
        if "service" in found and not service:
            raise ConfigurationError(
                f"path {self.template!r} holds {{service}}; set FAPILOG_SERVICE, or write the name"
            )
        self.dated = "date" in found
        self._service = re.sub(r"[^A-Za-z0-9_-]+|^\.+", "_", service or "")
        self._pattern = self._compile(path)

    def current(self, today: date | None = None) -> Path:
        """Return the path that is written to now; *today* is the date in local time."""
        values = {
            "pid": lambda: str(os.getpid()),
            "service": lambda: self._service,
            "date": (today or datetime.now().date()).isoformat,
        }
        return Path(self._token.sub(lambda token: values[token[1]](), self.template))

    def members(self, directory: int) -> list[Member]:
        """Find the regular files of this log in the directory that is open as *directory*, oldest first."""
        found = []
        for name in os.listdir(directory):
            if (match := self._pattern.fullmatch(name)) is None:
                continue
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                groups = {key: value or "" for key, value in match.groupdict("").items()}
                stamp = f"{groups['stamp']}.{int(groups['count'] or 0):06d}" if groups["stamp"] else ""
                found.append(
                    Member(
                        name,
                        stamp,
                        groups.get("date", ""),
                        groups.get("pid", ""),
                        groups["compression"],
                        bool(groups["unfinished"]),
                        status,
                    )
                )
        return sorted(found, key=lambda member: member.age)

    def _compile(self, path: Path) -> re.Pattern[str]:
        stem, suffix = _split(path.name)
        ends = "|".join(re.escape(end) for end in SUFFIXES.values())
        seen: set[str] = set()
        return re.compile(
            rf"{self._literal(stem, seen)}(?:\.(?P<stamp>{_STAMP})(?:\.(?P<count>\d+))?)?{self._literal(suffix, seen)}"
            rf"(?P<compression>{ends})?(?P<unfinished>{re.escape(UNFINISHED)})?",
            re.ASCII,
        )

    def _literal(self, text: str, seen: set[str]) -> str:
        """Return a pattern for a part of a name; a token that comes again is not captured again."""

        def pieces() -> Iterator[str]:
            at = 0
            for token in self._token.finditer(text):
                yield re.escape(text[at : token.start()])
                at = token.end()
                name = token[1]
                if name == "service":
                    yield re.escape(self._service)
                else:
                    yield _PATTERNS[name] if name in seen else f"(?P<{name}>{_PATTERNS[name]})"
                    seen.add(name)
            yield re.escape(text[at:])

        return "".join(pieces())


def aside(name: str, at: float, is_free: Callable[[str], bool]) -> str:
    """Return what the file called *name* is called when it is put aside at *at*, in seconds since the epoch.

    Of several at one moment the later ones have a number; *is_free* says whether a name can be taken.
    """
    stem, suffix = _split(name)
    stamp = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d_%H-%M-%S_%f")
    found, count = f"{stem}.{stamp}{suffix}", 0
    while not is_free(found):
        count += 1
        found = f"{stem}.{stamp}.{count}{suffix}"
    return found


def claim_aside(name: str, directory: int) -> tuple[str, int]:
    """Take a name for the file called *name* to be put aside now, by making an empty file of that name.

    Args:
        name: What the file is called in the directory.
        directory: The open directory.

    Returns:
        The name that was free, and the empty file, open.

    Raises:
        OSError: It cannot be made.
    """

    def is_free(candidate: str) -> bool:
        return not any(exists(candidate + suffix, directory) for suffix in ("", *SUFFIXES.values()))

    while True:
        target = aside(name, time.time(), is_free)
        with contextlib.suppress(FileExistsError):
            return target, os.open(target, _CLAIM_FLAGS, PRIVATE_FILE, dir_fd=directory)


def exists(name: str, directory: int) -> bool:
    """Whether there is anything of that name in the open *directory*."""
    try:
        os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


def _split(name: str) -> tuple[str, str]:
    path = Path(name)
    return path.stem, path.suffix
