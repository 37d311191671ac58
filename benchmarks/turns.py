"""Contestants that take turns, each in a process of its own, so that none meets the global state of another."""

import json
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from benchmarks.measure import ROOT


class Player:
    """A process that plays one round each time it is asked."""

    def __init__(self, module: str, *arguments: str) -> None:
        """Start ``python -m module``, which calls `serve`."""
        self._arguments = (module, *arguments)
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            bufsize=1,
        )

    def play(self) -> Any:
        """Play a round and return what it gave.

        Raises:
            RuntimeError: The process ended instead.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("play\n")
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a contestant ended with exit code {self._process.wait()}: {self._arguments}")
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()


def serve(play: Callable[[], Any]) -> int:
    """Play a round for each line on stdin and print what it gave as JSON."""
    for _ in sys.stdin:
        print(json.dumps(play()), flush=True)
    return 0


def take_turns(first: Player, second: Player, rounds: int) -> list[tuple[Any, Any]]:
    """Play that many rounds after one that does not count; who begins changes every round."""
    played = []
    for number in range(rounds + 1):
        if number % 2:
            one = first.play()
            two = second.play()
        else:
            two = second.play()
            one = first.play()
        if number:
            played.append((one, two))
    return played
