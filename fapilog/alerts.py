"""Tell somebody when the pipeline itself is in trouble: its queue fills up, records are lost, a sink is away.

Each receiver, a callable or a webhook, has a thread of its own that reads the pipeline's figures every few seconds. An
alert goes past the pipeline, so it arrives when the pipeline does not work; a receiver that raises or hangs delays
nothing but itself.
"""

import asyncio
import contextvars
import inspect
import json
import os
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from fapilog.diagnostics import report
from fapilog.errors import ConfigurationError
from fapilog.pipeline.ledger import Stats
from fapilog.pipeline.worker import ALERTS_THREAD
from fapilog.settings import LoggingSettings
from fapilog.webhook import Webhook

AlertKind: TypeAlias = Literal["queue_filling", "records_dropped", "sink_unavailable"]
"""What an alert is about.

* ``queue_filling``: the queue, or the inbox of a sink, is filled beyond a share of its bound.
* ``records_dropped``: records were lost since the last alert of this kind.
* ``sink_unavailable``: a sink is down, stalled or closed.
"""

_RETRY_SECONDS: Final = 60.0
_HOUR_SECONDS: Final = 3600.0

_Key: TypeAlias = tuple[AlertKind, str | None]


class _Trouble(NamedTuple):
    """What one snapshot shows."""

    kind: AlertKind
    sink: str | None
    message: str
    figures: dict[str, int | float | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that is wrong, or was and is no longer."""

    kind: AlertKind

    sink: str | None
    """The sink it is about; None for the queue that all share."""

    message: str
    """What a person needs to know, in one line."""

    figures: Mapping[str, int | float | str]
    """The numbers behind the message; for ``records_dropped`` the losses by reason."""

    since: datetime
    """When it was first seen, in UTC."""

    resolved: bool = False
    """Whether it is over. A loss never is."""


class Receiver(Protocol):
    """Whoever is told."""

    def __call__(self, alert: Alert, /) -> bool:
        """Take *alert*; return False if it did not arrive and may be told again later. Never raises."""


class Watch:
    """Tell one receiver what is wrong, not more often than it wants to hear."""

    def __init__(
        self,
        snapshot: Callable[[], Stats],
        receiver: Receiver,
        *,
        queue_share: float = 0.8,
        cooldown_seconds: float = 300.0,
        max_per_hour: int = 20,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Compare each *snapshot* with what *receiver* was told already."""
        self._snapshot = snapshot
        self._receiver = receiver
        self._queue_share = queue_share
        self._cooldown_seconds = cooldown_seconds
        self._max_per_hour = max_per_hour
        self._clock = clock
        self._now = now
        self._since: dict[_Key, datetime] = {}
        self._told: dict[_Key, Alert] = {}
        self._quiet_until: dict[_Key, float] = {}
        self._losses_told: dict[str | None, Counter[str]] = {}
        self._accepted: dict[str, int] = {}
        """How many records each sink there is had accepted at the last look."""
        self._sent: deque[float] = deque(maxlen=max_per_hour)
        self._retry_at = 0.0
        self._stopped = threading.Event()

    def run(self, interval_seconds: float) -> None:
        """Check every *interval_seconds*, until `stop`."""
        while not self._stopped.wait(interval_seconds):
            try:
                self.check()
            except Exception as error:  # noqa: BLE001 - nobody above could do anything about it
                report(f"alerts cannot be checked: {type(error).__name__}: {error}", key="alerts")

    def stop(self) -> None:
        """Tell nothing more; does not wait for a receiver that is busy."""
        self._stopped.set()

    def check(self) -> None:
        """Look once, and tell what is new, what came back after its cooldown, and what is over."""
        stats = self._snapshot()
        self._forget_gone(stats)
        present = {
            (trouble.kind, trouble.sink): trouble
            for troubles in (self._filling(stats), self._losses(stats), _unavailable(stats))
            for trouble in troubles
        }
        seen = self._now()
        self._since = {key: self._since.get(key, seen) for key in present}
        for key, trouble in present.items():
            if key not in self._told and self._clock() >= self._quiet_until.get(key, 0.0):
                self._tell_of(key, trouble, stats)
        for key in [key for key in self._told if key not in present]:
            if self._tell(_over(self._told[key], seen, stats)):
                del self._told[key]

    def _forget_gone(self, stats: Stats) -> None:
        """Begin anew with the losses of a sink that was removed, and perhaps added again: then its figures have."""
        for name, accepted in self._accepted.items():
            if name not in stats.sinks or stats.sinks[name].accepted < accepted:
                self._losses_told.pop(name, None)
        self._accepted = {name: sink.accepted for name, sink in stats.sinks.items()}

    def _tell_of(self, key: _Key, trouble: _Trouble, stats: Stats) -> None:
        alert = Alert(
            kind=trouble.kind,
            sink=trouble.sink,
            message=trouble.message,
            figures=MappingProxyType(trouble.figures),
            since=self._since[key],
        )
        if not self._tell(alert):
            return
        self._quiet_until[key] = self._clock() + self._cooldown_seconds
        if trouble.kind == "records_dropped":
            self._losses_told[trouble.sink] = _losses_of(stats, trouble.sink)
            del self._since[key]
        else:
            self._told[key] = alert

    def _tell(self, alert: Alert) -> bool:
        now = self._clock()
        if self._stopped.is_set() or now < self._retry_at:
            return False
        if len(self._sent) == self._max_per_hour and now - self._sent[0] < _HOUR_SECONDS:
            report(f"{self._max_per_hour} alerts were sent within an hour; further ones wait", key="alerts per hour")
            return False
        if not self._receiver(alert):
            self._retry_at = self._clock() + min(_RETRY_SECONDS, self._cooldown_seconds)
            return False
        self._sent.append(now)
        return True

    def _filling(self, stats: Stats) -> Iterator[_Trouble]:
        places: list[tuple[str | None, int, int]] = [(None, stats.queue_records, stats.queue_bytes)]
        places += [(name, sink.queued - stats.queue_records, sink.inbox_bytes) for name, sink in stats.sinks.items()]
        for place, records, size in places:
            share = max(_share(records, stats.queue_max_records), _share(size, stats.queue_max_bytes))
            if share >= self._queue_share:
                message = f"{_place(place)} is {share:.0%} full: {records} records, {size} bytes"
                yield _Trouble(
                    "queue_filling", place, message, {"share": round(share, 3), "records": records, "bytes": size}
                )

    def _losses(self, stats: Stats) -> Iterator[_Trouble]:
        for sink in (None, *stats.sinks):
            new = _losses_of(stats, sink) - self._losses_told.get(sink, Counter())
            if new:
                reasons = ", ".join(f"{reason}={count}" for reason, count in sorted(new.items()))
                where = "were refused before the queue" if sink is None else f"did not reach the sink {sink}"
                message = f"{new.total()} records {where} and are lost ({reasons})"
                yield _Trouble("records_dropped", sink, message, dict(new))


def watch_over(
    settings: LoggingSettings, on_alert: Callable[[Alert], Any] | None, snapshot: Callable[[], Stats]
) -> "Alerts":
    """Make the alerts that *settings* and the user's callable ask for; nothing runs yet.

    Raises:
        ConfigurationError: If the webhook or the callable cannot be used.
    """
    receivers: list[Receiver] = []
    if on_alert is not None:
        if not callable(on_alert):
            raise ConfigurationError(f"on_alert must be a callable that takes an Alert, got {type(on_alert).__name__}")
        receivers.append(CallableReceiver(on_alert))
    webhook = webhook_of(settings)
    if webhook is not None:
        receivers.append(webhook)
    watches = [
        Watch(
            snapshot,
            receiver,
            queue_share=settings.alert_queue_share,
            cooldown_seconds=settings.alert_cooldown_seconds,
            max_per_hour=settings.alert_max_per_hour,
        )
        for receiver in receivers
    ]
    return Alerts(watches, interval_seconds=settings.alert_interval_seconds)


def webhook_of(settings: LoggingSettings) -> "WebhookReceiver | None":
    """Make the webhook that *settings* name; None if they name none.

    Raises:
        ConfigurationError: If it cannot be posted to.
    """
    if settings.alert_webhook is None:
        return None
    try:
        webhook = Webhook(settings.alert_webhook.get_secret_value(), private=settings.alert_webhook_private)
    except ConfigurationError as error:
        raise ConfigurationError(f"alert_webhook {error}") from None
    about = {"service": settings.service, "env": settings.env, "host": socket.gethostname()}
    return WebhookReceiver(webhook, {name: value for name, value in about.items() if value})


class Alerts:
    """The watches of one running logger: one thread for each receiver, and none if there is no receiver."""

    def __init__(self, watches: Sequence[Watch], *, interval_seconds: float) -> None:
        """Hold *watches*; nothing runs before `start`."""
        self._watches = tuple(watches)
        self._interval_seconds = interval_seconds

    def start(self) -> None:
        """Begin to check every few seconds, in the background."""
        for watch in self._watches:
            context = contextvars.Context()  # not that of the request which happened to log first
            thread = threading.Thread(
                target=context.run, args=(watch.run, self._interval_seconds), name=ALERTS_THREAD, daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # no more threads, or the interpreter is ending
                report(f"alerts cannot start: {error}")

    def stop(self) -> None:
        """Tell nothing more."""
        for watch in self._watches:
            watch.stop()


class CallableReceiver:
    """Hand alerts to a function of the user's."""

    def __init__(self, function: Callable[[Alert], Any]) -> None:
        """Call *function*; a coroutine function runs on an event loop of its own."""
        self._function = function

    def __call__(self, alert: Alert, /) -> bool:
        """Call it. If it raises it has had the alert all the same."""
        try:
            result = self._function(alert)
            if inspect.iscoroutine(result):
                asyncio.run(result)
        except BaseException as error:  # noqa: BLE001 - a SystemExit of theirs must not end the thread
            report(f"the alert callable failed: {type(error).__name__}: {error}", key="alert callable")
        return True


class WebhookReceiver:
    """Post alerts as JSON."""

    def __init__(self, webhook: Webhook, about: Mapping[str, str] | None = None) -> None:
        """Post to *webhook*; *about* is what tells this service from others: further fields of the JSON object."""
        self._webhook = webhook
        self._about = dict(about or {})

    def __call__(self, alert: Alert, /) -> bool:
        """Post it; anything but a 2xx answer within the time means that it did not arrive."""
        where = self._about.get("service") or self._about.get("host")
        body = {
            "text": f"fapilog at {where}: {alert.message}" if where else f"fapilog: {alert.message}",
            "kind": alert.kind,
            "sink": alert.sink,
            "resolved": alert.resolved,
            "since": alert.since.isoformat().replace("+00:00", "Z"),
            "figures": dict(alert.figures),
            **self._about,
            "pid": os.getpid(),
        }
        try:
            status = self._webhook.post(json.dumps(body).encode())
        except ConfigurationError as error:
            report(f"alert_webhook {error}", key="alert webhook")
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the text may name the address
            report(f"the alert webhook cannot be reached: {type(error).__name__}", key="alert webhook")
            return False
        if 200 <= status < 300:
            return True
        hint = "; redirects are not followed" if 300 <= status < 400 else ""
        report(f"the alert webhook answered {status}{hint}", key="alert webhook")
        return False


def _unavailable(stats: Stats) -> Iterator[_Trouble]:
    for name, sink in stats.sinks.items():
        if sink.state != "up":
            waiting = sink.queued + sink.in_flight
            spooled = f", {sink.spooled} are spooled" if sink.spooled else ""
            message = f"the sink {name} is {sink.state}: {waiting} records wait for it{spooled}"
            figures: dict[str, int | float | str] = {
                "state": sink.state,
                "queued": sink.queued,
                "in_flight": sink.in_flight,
                "spooled": sink.spooled,
            }
            yield _Trouble("sink_unavailable", name, message, figures)


def _over(alert: Alert, now: datetime, stats: Stats) -> Alert:
    """Return what to say now that *alert* no longer holds."""
    seconds = round((now - alert.since).total_seconds())
    if alert.sink is not None and alert.sink not in stats.sinks:
        what = f"the sink {alert.sink} was removed"
    elif alert.kind == "sink_unavailable":
        what = f"the sink {alert.sink} is up again"
    else:
        what = f"{_place(alert.sink)} has room again"
    return Alert(
        kind=alert.kind,
        sink=alert.sink,
        message=f"{what}, after {seconds} seconds",
        figures=MappingProxyType({"seconds": seconds}),
        since=alert.since,
        resolved=True,
    )


def _losses_of(stats: Stats, sink: str | None) -> Counter[str]:
    dropped = stats.dropped if sink is None else stats.sinks[sink].dropped
    return Counter({str(reason): count for reason, count in dropped.items()})


def _place(sink: str | None) -> str:
    return "the queue" if sink is None else f"the inbox of the sink {sink}"


def _share(used: int, bound: int) -> float:
    return used / bound if bound else 0.0
