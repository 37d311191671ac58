"""Look after a store while a service writes to it: when it is due, compact it in a short-lived child process.

The child's memory is not the service's, nor is its crash: it is niced, offers itself to the kernel first where memory
runs out, and can be killed at any moment. Of all processes that write to a store one at a time has a child. DuckDB is
loaded nowhere else.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from fapilog import forks
from fapilog.diagnostics import report
from fapilog.errors import StoreError
from fapilog.files.segment import hold_slot
from fapilog.store.manifest import DATABASE, SEGMENTS, Manifest, lock_store
from fapilog.store.merging import small_files
from fapilog.store.retain import GRACE_SECONDS, Bounds, plan, retain

COMPACT_BYTES: Final = 16 * 1024 * 1024
COMPACT_SECONDS: Final = 900.0
CHILD_BYTES: Final = 320 * 1024 * 1024
"""What a compaction takes at most, all told."""

Compaction = Literal["auto", "inline", "off"]

_NO_BOUNDS: Final = Bounds(max_bytes=None, max_age_days=None)
_VIEW_SECONDS: Final = 300.0
_STEP_SECONDS: Final = 0.1
_ENDING_SECONDS: Final = 3.0
_CODE: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from fapilog.store.upkeep import main; main(sys.argv[2])"
)


class Upkeep:
    """One thread that looks at the store now and then, and has it compacted when that is due."""

    def __init__(
        self,
        store: Path,
        bounds: Bounds,
        *,
        compaction: Compaction = "auto",
        interval_seconds: float = 60.0,
        compact_bytes: int = COMPACT_BYTES,
    ) -> None:
        """Prepare to look after *store*; nothing happens before `wake`.

        Args:
            store: Its directory.
            bounds: What it may hold.
            compaction: ``auto``: in a child process; ``inline``: in this one; ``off``: not at all, but for the bounds.
            interval_seconds: How often it is looked at.
            compact_bytes: How much of closed segments there has to be before they are compacted.
        """
        self._store = store
        self._bounds = bounds
        self._compaction = compaction
        self._interval_seconds = interval_seconds
        self._compact_bytes = compact_bytes
        self._event = threading.Event()
        self._thread: threading.Thread | None = None
        self._ending = False
        self._child: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0
        self._failed = False
        _all.add(self)

    def wake(self) -> None:
        """Look at the store now, as a segment was begun."""
        if self._thread is None and not self._ending:
            thread = threading.Thread(target=self._run, name="fapilog-store", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the interpreter is ending
                return
            self._thread = thread
        self._event.set()

    def close(self) -> None:
        """End the thread and its child. What is left of a compaction the next one deletes."""
        self._ending = True
        self._event.set()
        if (thread := self._thread) is not None:
            thread.join(_ENDING_SECONDS)
        self._thread = None

    def forget(self) -> None:
        """Drop what a fork left here: the parent's thread and its child."""
        if self._child is not None:
            self._child.returncode = 0  # it is not ours to wait for
        self._child = self._thread = None
        self._event = threading.Event()

    def _run(self) -> None:
        while not self._ending:
            self._event.wait(self._interval_seconds)
            self._event.clear()
            if self._ending:
                return
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a directory, the records go on
                report(f"cannot look after the store {str(self._store)!r}: {error}", key="store upkeep")

    def _look(self) -> None:
        waits = time.monotonic() < self._not_before
        if self._compaction == "off" or (waits and self._failed) or not self._can_compact():
            retain(self._store, self._bounds)
        elif waits or (reason := due(self._store, self._bounds, compact_bytes=self._compact_bytes)) is None:
            retain(self._store, _NO_BOUNDS)  # what was replaced a while ago goes now: the disk may be full
        elif self._compaction == "inline":
            from fapilog.store.compact import compact  # noqa: PLC0415 - it loads DuckDB, as was asked for

            self._tell(compact(self._store, **asdict(self._bounds)).problems)
        else:
            self._run_child(reason)

    def _can_compact(self) -> bool:
        if self._compaction == "inline":
            return True
        problem = None
        if not Path(sys.executable or "").name.lower().startswith(("python", "pypy")):
            problem = f"{sys.executable!r} is no Python to run it with"
        elif (room := memory_room()) is not None and room < CHILD_BYTES:
            problem = f"it takes up to {CHILD_BYTES >> 20} MiB and the container has {room >> 20} left"
        if problem is not None:
            report(
                f"the store is not compacted, as {problem}; run `fapilog compact` elsewhere, "
                "or set FAPILOG_DUCKDB__COMPACTION=off",
                key="store compaction",
            )
        return problem is None

    def _run_child(self, reason: str) -> None:
        lock = lock_store(self._store)
        if lock is None:  # another process's child is at it
            return
        lock.release()
        arguments = {"path": str(self._store), **asdict(self._bounds)}
        command = [
            sys.executable,
            "-I",
            "-c",
            _CODE,
            json.dumps([os.fspath(p) for p in sys.path]),
            json.dumps(arguments),
        ]
        with subprocess.Popen(  # noqa: S603 - our own code in our own interpreter
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        ) as child:
            self._child = child
            output = [b"", b""]

            def read(number: int, pipe: Any) -> None:
                output[number] = pipe.read()

            readers = [
                threading.Thread(target=read, args=(number, pipe), name="fapilog-store-child", daemon=True)
                for number, pipe in enumerate((child.stdout, child.stderr))
            ]
            for reader in readers:
                reader.start()
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(_STEP_SECONDS)
                    break
                if self._ending:
                    child.kill()
            for reader in readers:
                reader.join()
            self._child = None
        if self._ending:
            return
        self._failed = child.returncode != 0
        if self._failed:
            last = output[1].decode("utf-8", "replace").strip().rpartition("\n")[2]
            self._not_before = time.monotonic() + COMPACT_SECONDS
            report(
                f"a compaction ({reason}) ended with {child.returncode}: {last or 'it said nothing'}",
                key="store compaction",
            )
        else:
            self._tell(json.loads(output[0] or b"[]"))

    def _tell(self, problems: list[str]) -> None:
        for problem in problems:
            self._not_before = time.monotonic() + COMPACT_SECONDS  # it would be the same again
            report(f"compacting the store: {problem}", key=f"store compaction {problem}")


def due(
    store: Path,
    bounds: Bounds,
    *,
    compact_bytes: int = COMPACT_BYTES,
    compact_seconds: float = COMPACT_SECONDS,
    grace_seconds: float = GRACE_SECONDS,
    clock: Callable[[], float] = time.time,
) -> str | None:
    """Say why *store* should be compacted now, or None if there is no reason to.

    Raises:
        OSError: The directory cannot be read.
    """
    now = clock()
    try:
        manifest = Manifest.load(store)
    except StoreError:
        return "the manifest has to be made again"
    live = manifest.live_segments(store)
    last = {segment.slot: segment for segment in live}  # they are in order
    closed = [segment for segment in live if segment is not last[segment.slot]]
    for segment in last.values():
        if segment.size_bytes and now - segment.modified > compact_seconds:
            slot = hold_slot(store / SEGMENTS, segment.slot)
            if slot is not None:  # no process has it now
                slot.release()
                closed.append(segment)
    if sum(segment.size_bytes for segment in closed) >= compact_bytes:
        return "segments are full"
    if closed and now - min(segment.modified for segment in closed) > compact_seconds:
        return "segments are old"
    with contextlib.ExitStack() as held:
        if plan(store, manifest, bounds, now, held):
            return "the store is beyond its bounds"
    if any(now - entry.at > grace_seconds + compact_seconds for entry in manifest.retired):
        return "files are to be deleted"
    if manifest.view_generation < manifest.generation and (store / DATABASE).exists():
        changed = max((entry.at for entry in manifest.retired), default=0.0)
        if now - changed > _VIEW_SECONDS:
            return "logs.duckdb is behind"
    today = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
    return "days are in pieces" if small_files(manifest.parquet, today) else None


def memory_room(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return how many bytes the container may still use, or None if it has no bound or that is not known.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    try:
        bound = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
        facts = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
        return None if bound == "max" else int(bound) - used + int(facts.get("inactive_file", 0))
    except (OSError, ValueError):
        return None


def main(arguments: str) -> None:
    """Be the child: compact with *arguments*, as JSON those of `fapilog.store.compact.compact`, and print problems."""
    os.nice(19)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    given: Mapping[str, Any] = json.loads(arguments)
    lock = lock_store(Path(given["path"]))
    if lock is None:
        return
    lock.release()
    from fapilog.store.compact import compact  # noqa: PLC0415 - not before it is known to be needed

    json.dump(compact(**given).problems[:20], sys.stdout)


_all: weakref.WeakSet[Upkeep] = weakref.WeakSet()


def _forget_inherited() -> None:
    for upkeep in list(_all):
        upkeep.forget()


forks.in_child(_forget_inherited)
