"""Look names up when an event loop no longer can."""

import asyncio
import contextlib
import encodings.idna  # noqa: F401 - needed to look a name up; too late to import once files have run out
import queue
import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, TypeAlias

RESOLVE_TIMEOUT_SECONDS: Final = 3.0


class Resolver:
    """Look names up on a thread of its own.

    An event loop does it in an executor, which CPython refuses as soon as the interpreter begins to end, just when
    the last records have to go out.
    """

    def __init__(self, look_up: Callable[[str, int], list[str]] | None = None) -> None:
        """Look up with *look_up*; None means the system's way."""
        self._look_up = look_up or _look_up
        self._questions: queue.SimpleQueue[tuple[str, int, _Lookup] | None] = queue.SimpleQueue()
        self._pending: dict[tuple[str, int], _Lookup] = {}
        self._started = False
        self._alone = False

    def start(self) -> None:
        """Start the thread, if it does not run."""
        if self._started or self._alone:
            return
        try:
            threading.Thread(target=self._run, name="fapilog-resolver", daemon=True).start()
        except RuntimeError:  # no more threads, or the interpreter is ending: the loop waits for each answer then
            self._alone = True
        else:
            self._started = True

    def stop(self) -> None:
        """Let the thread end after the question it is at."""
        if self._started:
            self._questions.put(None)
            self._started = False

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return the numeric addresses of *host*, in the order in which they should be tried.

        Raises:
            OSError: If it has none, or if that is not known within 3 seconds.
        """
        if is_address(host):
            return [host]
        self.start()
        if self._alone:
            return self._look_up(host, port)
        loop = asyncio.get_running_loop()
        lookup = self._pending.get((host, port))
        if lookup is None or lookup.done() or lookup.get_loop() is not loop:  # else the last question is still open
            lookup = self._pending[host, port] = loop.create_future()
            self._questions.put((host, port, lookup))
        done, _ = await asyncio.wait({lookup}, timeout=RESOLVE_TIMEOUT_SECONDS)
        if not done:
            raise TimeoutError(f"no address within {RESOLVE_TIMEOUT_SECONDS:g} s")
        found = lookup.result()
        if isinstance(found, OSError):
            raise found
        return found

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            host, port, lookup = question
            found: list[str] | OSError
            try:
                found = self._look_up(host, port)
            except OSError as error:
                found = error
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread goes on
                found = OSError(f"{type(error).__name__} while looking it up")
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                lookup.get_loop().call_soon_threadsafe(_answer, lookup, found)


_Lookup: TypeAlias = "asyncio.Future[list[str] | OSError]"


def _answer(lookup: _Lookup, found: list[str] | OSError) -> None:
    if not lookup.done():
        lookup.set_result(found)


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_address(host: str) -> bool:
    """Whether *host* is an address already."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
