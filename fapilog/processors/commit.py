"""Find the commit of a checkout without running git.

https://git-scm.com/docs/gitrepository-layout
"""

import os
import re
from pathlib import Path
from typing import Final

VARIABLES: Final = ("GIT_COMMIT", "GIT_SHA", "COMMIT_SHA", "SOURCE_COMMIT")
"""Where a build may say it, for an image without a checkout."""

_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SAID: Final = re.compile(r"[0-9a-f]{7,64}")
_REFERENCE: Final = re.compile(r"refs/[^\x00-\x20\x7f~^:?*\[\\]+")
_MAX_BYTES: Final = 16 * 1024 * 1024


def find_commit(directory: Path | None = None) -> str | None:
    """Return the commit that is checked out in *directory*, by default the current one, or in one above it.

    One of `VARIABLES` wins. None if there is no checkout, or none that can be read.
    """
    for name in VARIABLES:
        said = os.environ.get(name, "").strip().lower()
        if _SAID.fullmatch(said):
            return said
    try:
        start = (directory or Path.cwd()).absolute()
        for each in (start, *start.parents):
            git = _git_directory(each / ".git")
            if git is not None:
                return _head(git)
    except (OSError, ValueError):
        return None
    return None


def _git_directory(path: Path) -> Path | None:
    """Return where git keeps its files: *path*, or what it names in a worktree or a submodule."""
    if path.is_dir():
        return path
    if not path.is_file():
        return None
    key, _, said = _read(path).partition(":")
    return path.parent / said.strip() if key == "gitdir" else None


def _head(git: Path) -> str | None:
    head = _read(git / "HEAD").strip()
    key, _, reference = head.partition(":")
    if key != "ref":
        return _commit(head)
    reference = reference.strip()
    if not _REFERENCE.fullmatch(reference) or ".." in reference:
        return None
    common = git
    if (git / "commondir").is_file():  # a worktree: its branches are in the repository
        common = git / _read(git / "commondir").strip()
    for directory in (git, common):
        if (directory / reference).is_file():
            return _commit(_read(directory / reference).strip())
    for line in _read(common / "packed-refs").splitlines() if (common / "packed-refs").is_file() else ():
        commit, _, name = line.partition(" ")
        if name == reference:
            return _commit(commit)
    return None


def _commit(said: str) -> str | None:
    return said if _COMMIT.fullmatch(said) else None


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES).decode("utf-8", "replace")
