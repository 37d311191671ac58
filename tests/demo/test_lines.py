import json
from typing import Any

from fapilog.demo.lines import LINES_A_SECOND, Lines


def line(number: int, **fields: Any) -> bytes:
    record = {"timestamp": "2026-01-05T09:30:00.000000Z", "level": "info", "event": "sold", "logger": "shop"}
    return json.dumps({**record, "pid": 7, "id": f"aa-{number}", **fields}).encode() + b"\n"


def test_every_record_is_counted_and_few_are_shown() -> None:
    shown: list[str] = []
    now = 0.0
    lines = Lines(clock=lambda: now, write=shown.append)
    for number in range(1_000):
        now += 0.001
        lines(line(number))
    assert lines.ids.total() == 1_000
    assert lines.pids == {7}
    assert 1 <= len(shown) <= LINES_A_SECOND
    assert lines.shown == len(shown)


def test_problems_are_shown_beside_routine_lines() -> None:
    shown: list[str] = []
    now = 0.0
    lines = Lines(clock=lambda: now, write=shown.append)
    for number in range(10):
        now += 0.1
        lines(line(2 * number))
        lines(line(2 * number + 1, level="error", event="failed"))
    assert any("failed" in each for each in shown)
    assert any("sold" in each for each in shown)


def test_nothing_is_shown_once_it_is_quiet() -> None:
    shown: list[str] = []
    now = 0.0
    lines = Lines(clock=lambda: now, write=shown.append)
    now = 10.0
    lines.quiet.set()
    lines(line(1))
    assert not shown
    assert lines.ids.total() == 1


def test_a_secret_in_a_line_is_noticed() -> None:
    lines = Lines(write=lambda _: None)
    lines.secrets = (b"4242",)
    lines(line(1, card_number="REDACTED"))
    lines(line(2, note="paid with 4242"))
    assert lines.leaks == 1


def test_a_line_that_is_no_record_is_shown_as_it_is() -> None:
    shown: list[str] = []
    lines = Lines(write=shown.append)
    lines(b"Traceback (most recent call last):\n")
    assert shown == ["Traceback (most recent call last):"]
    assert lines.others == 1


def test_a_reader_that_has_left_does_not_stop_the_counting() -> None:
    def write(_: str) -> None:
        raise BrokenPipeError

    lines = Lines(write=write)
    lines(b"no record\n")
    lines(line(1))
    assert lines.quiet.is_set()
    assert lines.ids.total() == 1
