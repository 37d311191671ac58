"""Make the directory of a store, where there is none yet."""

import os
import tempfile
from pathlib import Path

from fapilog.files.lock import PRIVATE_DIRECTORY
from fapilog.store.manifest import SEGMENTS, lock_store
from fapilog.store.reserve import keep_reserve


def make_store(store: Path) -> None:
    """Make the directory *store* if it is missing, readable by its owner alone, and see that it can be written.

    Raises:
        OSError: It cannot; the message has the path and the reason.
    """
    ours = not store.exists() or not any(store.iterdir())
    store.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    segments = store / SEGMENTS
    segments.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
    fd, probe = tempfile.mkstemp(prefix="probe-", suffix=".tmp", dir=segments)
    os.close(fd)
    Path(probe).unlink()
    if ours:  # a directory that already held other files may be somebody's repository
        (store / ".gitignore").write_text("*\n")
    if (lock := lock_store(store)) is not None:
        with lock:
            keep_reserve(store)
