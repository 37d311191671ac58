"""Everything else the process logs, in the same voice: the standard library's loggers, the servers' own, warnings and
exceptions that nobody caught.

What is taken over is given back as it was when logging is closed.
"""  # noqa: D205 - a list is no summary

from collections.abc import Mapping

from fapilog.capture.records import RecordHandler
from fapilog.capture.servers import NAMES, ServerLoggers
from fapilog.capture.stdlib import RootLogger, Warnings
from fapilog.capture.uncaught import Hooks
from fapilog.settings import LoggingSettings

__all__ = ["NAMES", "Capture", "RecordHandler", "RootLogger", "ServerLoggers", "Warnings"]


class Capture:
    """All that is taken over, by the settings."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        handler = RecordHandler()
        self.root = RootLogger(handler)
        self.servers = ServerLoggers(handler)
        self.warnings = Warnings()
        self.hooks = Hooks()

    def take(
        self, settings: LoggingSettings, *, level: int, levels: Mapping[str, int], silence_access: bool, console: bool
    ) -> None:
        """Take over what *settings* ask for and give back the rest. Calling it again does no harm.

        Args:
            settings: What to capture.
            level: The lowest level that is recorded of a logger which nobody has named.
            levels: The lowest levels of those that somebody has, by name; with ``.*`` for those below it.
            silence_access: Whether there is an access record for each request, so that servers need not tell of it.
            console: Whether records go to stdout, where handlers of others would say everything a second time.
        """
        if settings.capture_stdlib:
            handlers = settings.stdlib_handlers
            self.root.capture(level, "keep" if handlers == "auto" and not console else handlers, levels)
        else:
            self.root.release()
        if settings.capture_servers:
            self.servers.capture(silence_access=silence_access)
        else:
            self.servers.release()
        if settings.capture_warnings:
            self.warnings.capture(through_logging=settings.capture_stdlib)
        else:
            self.warnings.release()
        self.hooks.capture(settings.capture_uncaught, through_logging=settings.capture_stdlib)

    def release(self) -> None:
        """Give everything back as it was; what somebody else has configured since stays."""
        self.hooks.release()
        self.warnings.release()
        self.servers.release()
        self.root.release()

    def begin_anew(self) -> None:
        """Make fresh locks in a forked child, where a thread that is gone may have held one."""
        self.servers.begin_anew()
