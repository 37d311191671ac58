"""A thread with an event loop for each sink, so that nothing a sink does can delay another or the worker.

Not `concurrent.futures` nor `asyncio.to_thread`: the interpreter refuses those at its end, when records must still go.
"""

import asyncio
import inspect
import os
import threading
from collections.abc import Callable
from typing import Any, Final

from fapilog.encoding import text

RESPONDS_WITHIN_SECONDS: Final = 0.5


class SinkThread:
    """Runs one sink's functions, plain ones and coroutines, one at a time in the order they were called."""

    def __init__(self, name: str) -> None:
        """Start the thread. As long as none can be started the functions run on the caller's loop."""
        self._name = name
        self._turn = asyncio.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._start()

    def _start(self) -> None:
        try:
            self._loop = make_loop()
        except OSError:  # no more files
            return
        thread = threading.Thread(target=self._run, name=f"fapilog-{self._name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            self._loop.close()
        else:
            self._thread = thread

    def call(self, function: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        """Run `function(*args)`, awaiting what it returns; the future, on the running loop, has the outcome."""
        if self._thread is None and not self._stopped:
            self._start()
        if self._thread is None:
            return asyncio.ensure_future(_outcome(function, args))
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._in_turn(function, args), self._loop))

    async def responds(self, call: "asyncio.Future[Any]") -> bool:
        """Return whether the thread does anything beside *call*, or has ended that, within a moment."""
        if self._thread is None:
            return True
        beat = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_nothing(), self._loop))
        await asyncio.wait({beat, call}, timeout=RESPONDS_WITHIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        return beat.done() or call.done()

    async def _in_turn(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        async with self._turn:  # a coroutine that was cancelled may take its time
            return await _outcome(function, args)

    def stop(self) -> None:
        """Let the thread end after its current call."""
        self._stopped = True
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()


class SinkFaultError(Exception):
    """Stands in for what a sink raised that is no ordinary exception and would end a task, a loop or a thread."""

    def __init__(self, error: BaseException) -> None:
        """Wrap *error*."""
        super().__init__(said(error))


def said(error: BaseException) -> str:
    """Return an error as a reader wants it: its type and what it says, whatever it is."""
    return f"{'' if isinstance(error, SinkFaultError) else type(error).__name__ + ': '}{text(error, 500)}"


def ordinary(error: BaseException) -> Exception:
    """Return *error* if a coroutine can raise it without ending more than itself, else what stands in for it."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    return SinkFaultError(error)


def make_loop() -> asyncio.SelectorEventLoop:
    """Return an event loop.

    Raises:
        OSError: There are no descriptors left for one. That is asked before: a loop that fails halfway complains of
            itself on stderr, at length, when it is collected.
    """
    reader, writer = os.pipe()
    try:
        os.close(os.dup(reader))
    finally:
        os.close(reader)
        os.close(writer)
    return asyncio.SelectorEventLoop()


async def _outcome(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        result = function(*args)
        return await result if inspect.isawaitable(result) else result
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ordinary(error) from error
    except BaseException as error:
        raise ordinary(error) from error


async def _nothing() -> None:
    """Show that the loop runs."""
