from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fapilog.cli.figures import MAX_BARS, bars, legend, tree
from fapilog.store.models import LogRecord
from fapilog.store.statistics import VolumeBucket
from fapilog.store.traces import nest

LEVELS = ["trace", "debug", "info", "success", "warning", "error", "critical", "odd"]


def volume(*levels: dict[str, int], step: int = 60) -> list[VolumeBucket]:
    start = datetime(2026, 11, 20, 23, 50, tzinfo=UTC)
    return [
        VolumeBucket(start=start + timedelta(seconds=step * number), records=sum(each.values()), levels=each)
        for number, each in enumerate(levels)
    ]


def test_bars_are_as_long_as_there_are_records() -> None:
    drawn = bars(volume({"info": 10}, {"info": 5}, {}), 60, width=30, colour=False)
    assert drawn == ["23:50 " + "░" * 20 + " 10", "23:51 " + "░" * 10 + " 5", "23:52  0"]


def test_one_error_among_many_records_is_seen() -> None:
    (line,) = bars(volume({"info": 100_000, "warning": 1, "error": 1}), 60, width=40, colour=False)
    assert line.count("█") == 1
    assert line.count("▒") == 1


def test_a_level_nobody_knows_is_counted_and_escaped() -> None:
    assert legend({"info": 1000, "\x1b[2J": 1}, colour=False) == "░░ info 1,000  ░░ \\x1b[2J 1"


def test_days_are_told_where_there_are_several() -> None:
    assert bars(volume({"info": 1}, {"info": 1}, step=3600), 3600, width=40, colour=False)[1].startswith("11-21 00:50 ")
    assert bars(volume({"info": 1}, step=86_400), 86_400, width=40, colour=False)[0].startswith("2026-11-20 ")
    assert bars(volume({"info": 1}, step=1), 1, width=40, colour=False)[0].startswith("23:50:00 ")


@given(
    st.lists(st.dictionaries(st.sampled_from(LEVELS), st.integers(1, 10**9)), min_size=1, max_size=80),
    st.integers(20, 200),
)
def test_bars_fit_and_count_every_record(counted: list[dict[str, int]], width: int) -> None:
    drawn = bars(volume(*counted), 60, width=width, colour=False)
    assert len(drawn) <= MAX_BARS
    numbers = [int(line.rpartition(" ")[2].replace(",", "")) for line in drawn]
    assert sum(numbers) == sum(sum(levels.values()) for levels in counted)
    assert max(map(len, drawn)) <= max(width, 40) + len(LEVELS)


@pytest.mark.parametrize("colour", [True, False])
def test_a_trace_of_thousands_of_spans_in_each_other_is_drawn(colour: bool) -> None:
    records = [
        LogRecord(
            event=f"e{number}",
            level="info",
            logger="x",
            timestamp=datetime(2026, 11, 20, tzinfo=UTC) + timedelta(seconds=number),
            span_id=f"{number:016x}",
            parent_span_id=f"{number - 1:016x}",
        )
        for number in range(1_000)
    ]
    lines = list(tree(nest(records), width=100, colour=colour))
    assert sum("span 0" in line for line in lines) == 1_000
    assert sum("info " in line for line in lines) == 1_000
    assert max(map(len, lines)) < 200
