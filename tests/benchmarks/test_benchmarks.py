"""The benchmarks run. What they measure is for `make bench`."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import calls, console, loki, store, throughput
from benchmarks.contestants import OURS
from benchmarks.measure import in_fresh_process
from benchmarks.turns import Player, take_turns

FLOOR = "floor: orjson + write"


def test_throughput_counts_what_both_took() -> None:
    found = throughput.compare(FLOOR, records=500, rounds=2)
    assert len(found["ratios"]) == 2
    assert found["ours_us"]["low"] <= found["ours_us"]["median"] <= found["ours_us"]["high"]


def test_single_calls_have_percentiles() -> None:
    found = calls.compare(FLOOR, calls=500, rounds=1)
    assert 0 < found[OURS]["p50_us"] <= found[OURS]["p999_us"] <= found[OURS]["max_us"]


def test_redaction_of_a_clean_record_is_told_by_names_and_in_all() -> None:
    found: dict[str, Any] = in_fresh_process("benchmarks.redaction", "--records=500", "--rounds=2")
    assert found.keys() == {"names_us", "again_us", "new_us"}
    assert found["new_us"]["low"] <= found["new_us"]["median"] <= found["new_us"]["high"]


def test_a_request_is_compared_with_the_bare_app() -> None:
    found: dict[str, Any] = in_fresh_process("benchmarks.request", "--requests=50", "--rounds=2")
    assert found["bare"]["p50_us"] > 0
    assert "median" in found["over_bare_us"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_reported_before_and_after_logging() -> None:
    found: dict[str, Any] = in_fresh_process("benchmarks.memory", "fapilog", "--records=500")
    assert found["idle_mb"] > 0
    assert found["after_mb"] > 0


def test_the_store_is_filled_compacted_and_asked(tmp_path: Path) -> None:
    found = store.measure(tmp_path, records=4_000, rounds=1)
    assert 3_500 < found["records"] < 4_500
    assert found["queries_ms"].keys() == store.BARS.keys() == found["live_ms"].keys()
    assert 0 < found["disk_share"] < 1
    assert found["child_mb"] > 0
    assert store.beside_compaction(tmp_path, records=1_000, calls=100)["p999_alone_us"] > 0
    assert store.write_cost(tmp_path, records=500, rounds=1)["store_over_file"] > 0


def test_records_for_a_person_are_counted_where_they_arrive() -> None:
    found = console.compare(records=300, rounds=2)
    assert found["ours"] > 0
    assert len(found["ratios"]) == 2


@pytest.mark.parametrize("body", ["protobuf", "json"])
def test_records_to_loki_are_counted_where_they_arrive(body: str) -> None:
    found = loki.compare(records=500, rounds=1, bodies=(body,))[body]
    assert found["records_per_second"]["median"] > 0
    assert found["dropped"] == 0


def test_a_round_that_loses_records_fails_the_benchmark(tmp_path: Path) -> None:
    (tmp_path / "losing.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from benchmarks.turns import serve\n"
        "def play():\n"
        "    raise AssertionError('1 of 2 records are in the file')\n"
        "serve(play)\n"
    )
    script = (
        "import sys, benchmarks.turns as turns\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from pathlib import Path\n"
        f"turns.ROOT = Path({str(tmp_path)!r})\n"
        "with turns.Player('losing') as player:\n"
        "    player.play()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "a contestant ended" in done.stderr


def test_turns_alternate_who_begins_and_leave_out_the_first_round() -> None:
    order: list[str] = []

    class Named(Player):
        def __init__(self, name: str) -> None:
            self.name = name

        def play(self) -> str:
            order.append(self.name)
            return self.name

    assert take_turns(Named("a"), Named("b"), 2) == [("a", "b"), ("a", "b")]
    assert order == ["b", "a", "a", "b", "b", "a"]
