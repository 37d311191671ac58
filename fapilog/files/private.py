"""Directories in which nobody else can have put something."""

import os
import stat
from pathlib import Path

from fapilog.errors import ConfigurationError
from fapilog.files.lock import PRIVATE_DIRECTORY


def make_directory(path: Path, *, private: bool = False) -> None:
    """Make *path* and what is above it, or see that it is a directory and, if *private*, that it is ours.

    Raises:
        ConfigurationError: It is something else, such as a symbolic link, or it belongs to another user.
        OSError: It cannot be made.
    """
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY, parents=True)
    except FileExistsError:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a directory"
            raise ConfigurationError(f"cannot use {str(path)!r}: it is {kind}; name a directory") from None
        if private and status.st_uid != os.geteuid():
            raise ConfigurationError(
                f"cannot use {str(path)!r}: it belongs to user {status.st_uid}; name another directory"
            ) from None


def is_ours(path: Path) -> bool:
    """Whether *path* is a directory, not a link to one, and belongs to this user."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
