import asyncio
import dataclasses
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fapilog import Alert, LoggingSettings, bound_context, configure_logging, log
from fapilog.alerts import Alerts, CallableReceiver, Watch, WebhookReceiver
from fapilog.doctor import examine
from fapilog.errors import ConfigurationError, RetryableError
from fapilog.pipeline.ledger import SinkStats, Stats
from fapilog.testing import CollectingSink
from fapilog.types import Batch
from fapilog.webhook import Webhook
from tests.hook_server import SECRET, HookServer

START = datetime(2026, 11, 20, 8, tzinfo=UTC)
ALERT = Alert(
    kind="sink_unavailable", sink="loki", message="the sink loki is down", figures={"state": "down"}, since=START
)


class Pipeline:
    """Figures that a test sets, a clock that it moves, and what was told."""

    def __init__(self, **options: Any) -> None:
        self.seconds = 0.0
        self.told: list[Alert] = []
        self.arrives = True
        self.removed = False
        self.sink = SinkStats(state="up", accepted=0, routed_away=0, delivered=0, queued=0, in_flight=0, dropped={})
        self.stats = Stats(
            instance="0123456789abcdef",
            accepted=0,
            filtered={},
            dropped={},
            queue_records=0,
            queue_bytes=0,
            queue_max_records=1000,
            queue_max_bytes=100_000,
            sinks={},
        )
        self.watch = Watch(
            lambda: dataclasses.replace(self.stats, sinks={} if self.removed else {"loki": self.sink}),
            self.receive,
            clock=lambda: self.seconds,
            now=lambda: START + timedelta(seconds=self.seconds),
            **options,
        )

    def receive(self, alert: Alert, /) -> bool:
        if self.arrives:
            self.told.append(alert)
        return self.arrives

    def after(self, seconds: float, **changes: Any) -> list[Alert]:
        """Move the clock, change the figures of the pipeline, check, and return what was told."""
        self.seconds += seconds
        self.stats = dataclasses.replace(self.stats, **changes)
        return self.checked()

    def sink_after(self, seconds: float, **changes: Any) -> list[Alert]:
        """Do the same with the figures of the sink."""
        self.seconds += seconds
        self.sink = dataclasses.replace(self.sink, **changes)
        return self.checked()

    def without_sink_after(self, seconds: float) -> list[Alert]:
        """Move the clock and check while the sink is removed."""
        self.seconds += seconds
        self.removed = True
        told = self.checked()
        self.removed = False
        return told

    def checked(self) -> list[Alert]:
        before = len(self.told)
        self.watch.check()
        return self.told[before:]


# What is told


def test_nothing_is_told_while_all_is_well() -> None:
    pipeline = Pipeline()
    assert pipeline.after(5, accepted=100, queue_records=799, queue_bytes=79_999) == []


@pytest.mark.parametrize("filled", [{"queue_records": 800}, {"queue_bytes": 80_000}])
def test_a_queue_that_fills_by_records_or_by_bytes_is_told(filled: dict[str, int]) -> None:
    [alert] = Pipeline().after(5, **filled)
    assert (alert.kind, alert.sink, alert.resolved) == ("queue_filling", None, False)
    assert alert.figures["share"] == 0.8
    assert alert.message.startswith("the queue is 80% full")


def test_the_share_of_the_queue_is_an_option() -> None:
    pipeline = Pipeline(queue_share=0.5)
    assert pipeline.after(5, queue_records=499) == []
    assert [alert.kind for alert in pipeline.after(5, queue_records=500)] == ["queue_filling"]


@pytest.mark.parametrize("filled", [{"queued": 950}, {"inbox_bytes": 80_000}])
def test_an_inbox_that_fills_is_told_with_its_sink(filled: dict[str, int]) -> None:
    pipeline = Pipeline()
    pipeline.stats = dataclasses.replace(pipeline.stats, queue_records=100)
    [alert] = pipeline.sink_after(5, **filled)
    assert (alert.kind, alert.sink) == ("queue_filling", "loki")


def test_a_full_queue_is_not_told_again_for_each_sink() -> None:
    pipeline = Pipeline()
    pipeline.sink = dataclasses.replace(pipeline.sink, queued=900)
    assert [alert.sink for alert in pipeline.after(5, queue_records=900)] == [None]


def test_a_loss_is_told_with_its_reasons() -> None:
    [alert] = Pipeline().after(5, dropped={"queue_full": 3, "block_timeout": 1})
    assert (alert.kind, alert.sink) == ("records_dropped", None)
    assert alert.figures == {"queue_full": 3, "block_timeout": 1}
    assert alert.message == "4 records were refused before the queue and are lost (block_timeout=1, queue_full=3)"


def test_a_loss_at_a_sink_names_the_sink() -> None:
    [alert] = Pipeline().sink_after(5, dropped={"sink_error": 2})
    assert (alert.kind, alert.sink) == ("records_dropped", "loki")
    assert alert.message == "2 records did not reach the sink loki and are lost (sink_error=2)"


@pytest.mark.parametrize("state", ["down", "stalled", "closed"])
def test_a_sink_that_is_not_up_is_told(state: str) -> None:
    [alert] = Pipeline().sink_after(5, state=state, queued=7, spooled=40)
    assert (alert.kind, alert.sink, alert.figures["state"]) == ("sink_unavailable", "loki", state)
    assert alert.message == f"the sink loki is {state}: 7 records wait for it, 40 are spooled"


def test_the_figures_of_an_alert_cannot_be_changed() -> None:
    [alert] = Pipeline().sink_after(5, state="down")
    with pytest.raises(TypeError):
        alert.figures["state"] = "up"  # type: ignore[index]


# When it is told


def test_a_trouble_that_lasts_is_told_once() -> None:
    pipeline = Pipeline()
    assert len(pipeline.sink_after(5, state="down")) == 1
    assert [pipeline.sink_after(400) for _ in range(5)] == [[]] * 5


def test_a_sink_that_is_up_again_is_told_with_how_long_it_took() -> None:
    pipeline = Pipeline()
    pipeline.sink_after(5, state="down")
    [alert] = pipeline.sink_after(95, state="up")
    assert (alert.kind, alert.sink, alert.resolved) == ("sink_unavailable", "loki", True)
    assert alert.message == "the sink loki is up again, after 95 seconds"
    assert alert.since == START + timedelta(seconds=5)
    assert pipeline.sink_after(5) == []


def test_a_queue_that_has_room_again_is_told() -> None:
    pipeline = Pipeline()
    pipeline.after(5, queue_records=900)
    [alert] = pipeline.after(5, queue_records=0)
    assert (alert.resolved, alert.message) == (True, "the queue has room again, after 5 seconds")


def test_a_sink_that_goes_from_down_to_stalled_is_neither_told_again_nor_over() -> None:
    pipeline = Pipeline()
    pipeline.sink_after(5, state="down")
    assert pipeline.sink_after(5, state="stalled") == []
    assert [alert.resolved for alert in pipeline.sink_after(5, state="up")] == [True]


def test_a_trouble_that_comes_back_waits_for_its_cooldown() -> None:
    pipeline = Pipeline(cooldown_seconds=300)
    pipeline.sink_after(0, state="down")
    pipeline.sink_after(10, state="up")
    assert pipeline.sink_after(10, state="down") == []
    assert pipeline.sink_after(10, state="up") == []
    assert pipeline.sink_after(10, state="down") == []
    [alert] = pipeline.sink_after(260)
    assert alert.since == START + timedelta(seconds=40)


def test_the_cooldown_of_one_sink_does_not_hold_back_another_trouble() -> None:
    pipeline = Pipeline()
    pipeline.sink_after(5, state="down")
    assert [alert.kind for alert in pipeline.after(5, queue_records=900)] == ["queue_filling"]
    assert [alert.kind for alert in pipeline.sink_after(5, dropped={"sink_error": 1})] == ["records_dropped"]


def test_losses_within_the_cooldown_are_added_up_and_none_is_told_twice() -> None:
    pipeline = Pipeline(cooldown_seconds=300)
    told = pipeline.sink_after(0, dropped={"sink_error": 1})
    assert pipeline.sink_after(5, dropped={"sink_error": 11}) == []
    assert pipeline.sink_after(5, dropped={"sink_error": 111, "inbox_full": 5}) == []
    told += pipeline.sink_after(300)
    assert [dict(alert.figures) for alert in told] == [{"sink_error": 1}, {"sink_error": 110, "inbox_full": 5}]
    assert told[1].since == START + timedelta(seconds=5)
    assert pipeline.sink_after(301) == []


def test_a_loss_is_never_over() -> None:
    pipeline = Pipeline()
    pipeline.sink_after(5, dropped={"sink_error": 1})
    assert pipeline.sink_after(600) == []


@pytest.mark.parametrize(
    ("trouble", "kind"), [({"state": "down"}, "sink_unavailable"), ({"queued": 900}, "queue_filling")]
)
def test_a_sink_that_is_removed_while_in_trouble_is_told_to_be_removed_not_well(
    trouble: dict[str, Any], kind: str
) -> None:
    pipeline = Pipeline()
    pipeline.sink_after(5, **trouble)
    [alert] = pipeline.without_sink_after(20)
    assert (alert.kind, alert.sink, alert.resolved) == (kind, "loki", True)
    assert alert.message == "the sink loki was removed, after 20 seconds"
    assert pipeline.without_sink_after(600) == []


@pytest.mark.parametrize("seen_missing", [True, False])
def test_the_losses_of_a_sink_that_is_added_again_are_told_from_the_first_on(seen_missing: bool) -> None:
    pipeline = Pipeline(cooldown_seconds=10)
    pipeline.sink_after(5, accepted=100, dropped={"sink_error": 100})
    if seen_missing:
        assert pipeline.without_sink_after(5) == []
    [alert] = pipeline.sink_after(20, accepted=60, dropped={"sink_error": 50})
    assert alert.figures == {"sink_error": 50}
    [alert] = pipeline.sink_after(20, accepted=61, dropped={"sink_error": 51})
    assert alert.figures == {"sink_error": 1}


def test_a_sink_that_is_removed_and_added_while_the_program_runs_is_told_as_what_it_is() -> None:
    class Lossy(CollectingSink):
        name = "lossy"

        def write(self, batch: Batch, /) -> None:
            raise ValueError

    class Away(CollectingSink):
        name = "away"

        def write(self, batch: Batch, /) -> None:
            raise RetryableError("away")

    told: list[Alert] = []

    def wait_until(is_so: Callable[[], bool]) -> None:
        until = time.monotonic() + 30
        while not is_so():
            assert time.monotonic() < until, told
            time.sleep(0.01)

    def lost() -> int:
        """How many records the alerts say that the sink has lost."""
        return sum(int(alert.figures["sink_error"]) for alert in told if alert.sink == "lossy")

    with configure_logging(
        sinks=[],
        access_log=False,
        on_alert=told.append,
        alert_interval_seconds=0.05,
        alert_cooldown_seconds=0.1,
        alert_max_per_hour=1_000,
    ) as handle:
        handle.add_sink(Away(), circuit_breaker_threshold=1)
        log.info("x")
        wait_until(lambda: bool(told))
        handle.remove_sink("away", 0.1)
        wait_until(lambda: told[-1].resolved)
        assert told[-1].message.startswith("the sink away was removed, after ")
        for count in (20, 10):
            told.clear()
            handle.add_sink(Lossy())
            for _ in range(count):
                log.info("x")
            wait_until(lambda: lost() >= count)  # noqa: B023
            handle.remove_sink("lossy", 1)


def test_no_receiver_gets_more_than_its_share_of_an_hour() -> None:
    pipeline = Pipeline(cooldown_seconds=0, max_per_hour=3)
    for round_ in range(100):
        pipeline.sink_after(5, state=("up", "down")[round_ % 2])
    assert len(pipeline.told) == 3


def test_what_the_hourly_limit_held_back_is_told_when_there_is_room() -> None:
    pipeline = Pipeline(max_per_hour=1)
    pipeline.sink_after(0, state="down")
    assert pipeline.sink_after(60, state="up") == []
    assert [alert.resolved for alert in pipeline.sink_after(3540)] == [True]


def test_what_did_not_arrive_is_told_again_after_a_minute() -> None:
    pipeline = Pipeline()
    pipeline.arrives = False
    pipeline.sink_after(0, state="down", dropped={"sink_error": 4})
    pipeline.arrives = True
    assert pipeline.sink_after(59) == []
    assert {alert.kind: dict(alert.figures) for alert in pipeline.sink_after(1)} == {
        "records_dropped": {"sink_error": 4},
        "sink_unavailable": {"state": "down", "queued": 0, "in_flight": 0, "spooled": 0},
    }


def test_a_trouble_that_nobody_heard_of_is_not_told_to_be_over() -> None:
    pipeline = Pipeline()
    pipeline.arrives = False
    pipeline.sink_after(0, state="down")
    pipeline.arrives = True
    assert pipeline.sink_after(120, state="up") == []


def test_nothing_is_told_after_the_end() -> None:
    pipeline = Pipeline()
    pipeline.watch.stop()
    assert pipeline.sink_after(5, state="closed") == []


# Callables


def test_a_callable_that_raises_is_one_line_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    def broken(alert: Alert) -> None:
        raise SystemExit(alert.kind)

    assert CallableReceiver(broken)(ALERT)
    assert CallableReceiver(broken)(ALERT)
    assert capfd.readouterr().err == "fapilog: the alert callable failed: SystemExit: sink_unavailable\n"


def test_a_coroutine_function_can_be_told() -> None:
    told = []

    async def tell(alert: Alert) -> None:
        await asyncio.sleep(0)
        told.append(alert)

    assert CallableReceiver(tell)(ALERT)
    assert told == [ALERT]


# Webhooks


@pytest.fixture
def webhook() -> Iterator[HookServer]:
    with HookServer() as server:
        yield server


def test_a_webhook_gets_the_alert_as_json(webhook: HookServer) -> None:
    receiver = WebhookReceiver(Webhook(webhook.url, private=True), {"service": "shop", "host": "web-1"})
    assert receiver(ALERT)
    [(path, headers, body)] = webhook.requests
    assert path == f"/hook/{SECRET}?token={SECRET}"
    assert headers["Host"] == f"127.0.0.1:{webhook.port}"
    assert headers["Content-Type"] == "application/json"
    assert body == {
        "text": "fapilog at shop: the sink loki is down",
        "kind": "sink_unavailable",
        "sink": "loki",
        "resolved": False,
        "since": "2026-11-20T08:00:00Z",
        "figures": {"state": "down"},
        "service": "shop",
        "host": "web-1",
        "pid": os.getpid(),
    }


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_a_webhook_that_refuses_has_not_been_told(status: int, capfd: pytest.CaptureFixture[str]) -> None:
    with HookServer(status) as server:
        assert not WebhookReceiver(Webhook(server.url, private=True))(ALERT)
    assert capfd.readouterr().err == f"fapilog: the alert webhook answered {status}\n"


def test_a_redirect_is_not_followed(webhook: HookServer, capfd: pytest.CaptureFixture[str]) -> None:
    with HookServer(307, {"Location": webhook.url}) as server:
        assert not WebhookReceiver(Webhook(server.url, private=True))(ALERT)
    assert webhook.requests == []
    assert "answered 307; redirects are not followed" in capfd.readouterr().err


def test_a_webhook_that_is_gone_is_one_line_without_its_address(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    receiver = WebhookReceiver(Webhook(f"http://127.0.0.1:{port}/{SECRET}", private=True))
    assert not receiver(ALERT)
    assert not receiver(ALERT)
    assert capfd.readouterr().err == "fapilog: the alert webhook cannot be reached: ConnectionRefusedError\n"


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://example.com/{SECRET}",
        f"file:///{SECRET}",
        f"//example.com/{SECRET}",
        f"example.com/{SECRET}",
        f"https:///{SECRET}",
        f"https://user:{SECRET}@example.com/",
        f"https://{SECRET}@example.com/",
        f"https://example.com:{SECRET}/",
        f"https://[{SECRET}/",
        f"https://example.com/{SECRET}\r\nX-Evil: 1",
        f"https://example.com/{SECRET} two",
        f"https://exämple.com/{SECRET}",
        "",
    ],
)
def test_a_webhook_that_cannot_be_posted_to_stops_the_configuration_and_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure_logging(sinks=[CollectingSink()], alert_webhook=url)
    assert "alert_webhook" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_name_that_turns_out_not_to_be_public_is_said(webhook: HookServer, capfd: pytest.CaptureFixture[str]) -> None:
    assert not WebhookReceiver(Webhook(f"http://localhost:{webhook.port}/{SECRET}"))(ALERT)
    assert webhook.requests == []
    said = capfd.readouterr().err
    assert "not public; set FAPILOG_ALERT_WEBHOOK_PRIVATE=true if that is meant" in said
    assert SECRET not in said


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "169.254.169.254", "[::ffff:a9fe:a9fe]"])
def test_an_address_that_is_not_public_stops_the_configuration(host: str) -> None:
    with pytest.raises(ConfigurationError, match="not public"):
        configure_logging(sinks=[CollectingSink()], alert_webhook=f"http://{host}/")


def test_the_webhook_is_masked_wherever_the_settings_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAPILOG_ALERT_WEBHOOK", f"https://example.com/{SECRET}")
    monkeypatch.setenv("FAPILOG_SINKS", "stdout")
    settings = LoggingSettings()
    report, fine = examine()
    assert fine
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump()), report):
        assert SECRET not in shown


def test_the_doctor_names_a_webhook_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAPILOG_ALERT_WEBHOOK", f"ftp://{SECRET}")
    report, fine = examine()
    assert not fine
    assert "alert_webhook must be a URL that starts with http:// or https://" in report
    assert SECRET not in report


# In a running logger


class LosingSink(CollectingSink):
    """A sink that accepts nothing."""

    name = "losing"

    def write(self, batch: Batch, /) -> None:
        raise ValueError("not this one")


def alert_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fapilog-alerts"]


def test_a_loss_in_a_running_logger_reaches_the_callable_and_the_webhook(webhook: HookServer) -> None:
    told: list[Alert] = []
    arrived = threading.Event()

    def tell(alert: Alert) -> None:
        told.append(alert)
        arrived.set()

    with configure_logging(
        sinks=[LosingSink()],
        on_alert=tell,
        alert_webhook=webhook.url,
        alert_webhook_private=True,
        alert_interval_seconds=0.01,
        service="shop",
    ) as handle:
        log.info("one")
        handle.flush()
        assert arrived.wait(10)
        assert webhook.arrived.wait(10)
    assert (told[0].kind, told[0].sink, set(told[0].figures)) == ("records_dropped", "losing", {"sink_error"})
    assert [(body["kind"], body["service"]) for _, _, body in webhook.requests] == [("records_dropped", "shop")]


def test_a_sink_that_goes_down_and_comes_back_is_told_both_times() -> None:
    told: list[Alert] = []
    down, up = threading.Event(), threading.Event()

    class FlakySink(CollectingSink):
        name = "flaky"

        def write(self, batch: Batch, /) -> None:
            if not down.is_set():
                raise ConnectionRefusedError
            super().write(batch)

    def tell(alert: Alert) -> None:
        told.append(alert)
        (up if alert.resolved else down).set()

    with configure_logging(
        sinks=[FlakySink()],
        on_alert=tell,
        alert_interval_seconds=0.01,
        flaky={"circuit_breaker_threshold": 1, "circuit_breaker_timeout_seconds": 0.05},
    ):
        log.info("one")
        assert down.wait(10)
        assert up.wait(10)
    assert [(alert.kind, alert.sink, alert.resolved) for alert in told] == [
        ("sink_unavailable", "flaky", False),
        ("sink_unavailable", "flaky", True),
    ]


def test_a_callable_that_hangs_holds_up_neither_the_webhook_nor_the_log_nor_the_end(webhook: HookServer) -> None:
    entered, released = threading.Event(), threading.Event()

    def hang(alert: Alert) -> None:
        entered.set()
        released.wait(30)

    sink = CollectingSink()
    try:
        with configure_logging(
            sinks=[LosingSink(), sink],
            on_alert=hang,
            alert_webhook=webhook.url,
            alert_webhook_private=True,
            alert_interval_seconds=0.01,
        ) as handle:
            log.info("one")
            assert entered.wait(10)
            assert webhook.arrived.wait(10)
            log.info("two")
            assert handle.flush().ok
            assert {"one", "two"} <= {record["event"] for record in sink.records}
        assert alert_threads()
    finally:
        released.set()


def test_what_a_callable_logs_is_delivered_without_the_fields_of_who_logged_first() -> None:
    logged = threading.Event()
    sink = CollectingSink()

    def tell(alert: Alert) -> None:
        log.error("alert", kind=alert.kind)
        logged.set()

    with configure_logging(sinks=[LosingSink(), sink], on_alert=tell, alert_interval_seconds=0.01) as handle:
        with bound_context(order_id=7):
            log.info("one")
        assert logged.wait(10)
        handle.flush()
    found = {record["event"]: record for record in sink.records}
    assert found["one"]["order_id"] == 7
    assert found["alert"]["kind"] == "records_dropped"
    assert "order_id" not in found["alert"]


def test_the_end_of_a_logger_is_no_trouble() -> None:
    told: list[Alert] = []
    with configure_logging(sinks=[CollectingSink()], on_alert=told.append, alert_interval_seconds=0.001):
        log.info("one")
    for thread in alert_threads():
        thread.join(10)
    assert told == []


def test_without_a_receiver_there_is_no_thread() -> None:
    with configure_logging(sinks=[CollectingSink()]) as handle:
        log.info("one")
        handle.flush()
        assert alert_threads() == []


def test_the_thread_begins_with_the_first_record_and_ends_with_the_logger() -> None:
    with configure_logging(sinks=[CollectingSink()], on_alert=print, alert_interval_seconds=0.01) as handle:
        assert alert_threads() == []
        log.info("one")
        handle.flush()
        [thread] = alert_threads()
        assert thread.daemon
    thread.join(10)
    assert not thread.is_alive()


def test_something_that_cannot_be_called_stops_the_configuration() -> None:
    with pytest.raises(ConfigurationError, match="on_alert must be a callable that takes an Alert, got str"):
        configure_logging(sinks=[CollectingSink()], on_alert="page me")  # type: ignore[arg-type]


def test_a_snapshot_that_fails_is_said_and_the_watch_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    twice = threading.Event()
    calls = []

    def snapshot() -> Stats:
        calls.append(1)
        if len(calls) == 2:
            twice.set()
        raise RuntimeError("out of order")

    alerts = Alerts([Watch(snapshot, lambda _: True)], interval_seconds=0.001)
    alerts.start()
    assert twice.wait(10)
    alerts.stop()
    for thread in alert_threads():
        thread.join(10)
    assert capfd.readouterr().err.count("alerts cannot be checked: RuntimeError: out of order") == 1


def test_a_forked_child_tells_its_own_troubles() -> None:
    code = """
import os, threading
from fapilog import configure_logging, log

class LosingSink:
    def write(self, batch): raise ValueError
    def close(self): pass

told = threading.Event()
def tell(alert):
    print(os.getpid() == parent, alert.kind, dict(alert.figures), flush=True)
    told.set()

parent = os.getpid()
configure_logging(sinks=[LosingSink()], on_alert=tell, alert_interval_seconds=0.01)
log.info("in the parent")
assert told.wait(10)
told.clear()
child = os.fork()
if not child:
    log.info("in the child"), log.info("again")
    assert told.wait(10)
    os._exit(0)
os.waitpid(child, 0)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    first, second = done.stdout.splitlines()
    assert first == "True records_dropped {'sink_error': 1}"
    assert second.startswith("False records_dropped {'sink_error': ")
