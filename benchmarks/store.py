"""Fill a store with a week of records, compact it as a service has it compacted, and time what people ask of it.

``python -m benchmarks.store --records 10000000`` needs about 8 GB of disk and some minutes.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import facts
from benchmarks.week import BEGIN, DAYS, PROCESSES, make_segments
from fapilog.files.segment import DEFAULT_MAX_BYTES
from fapilog.store import LogStore
from fapilog.store.manifest import PARQUET, SEGMENTS, Manifest

DAY: Final = f"{BEGIN:%Y-%m-}{BEGIN.day + 3:02}"
BARS: Final = {  # milliseconds at the median, or what each name says
    "volume by minute and level, a day": 100,
    "p50, p95 and p99 by route, a day": 100,
    "top errors, the week": 100,
    "one trace, id and day": 100,
    "one trace, id alone": 250,
    "substring, an hour": 100,
    "last 100 of a filter": 100,
    "volume by hour and level, the week": 400,
    "p50, p95 and p99 by route, the week": 400,
    "records by service and status, the week": 400,
    "substring of the message, the week": 400,
}
DISK_SHARE: Final = 0.20
RECORDS_PER_SECOND: Final = 150_000
CHILD_MB: Final = 300
LIVE_MS: Final = 60

QUERIES: Final = {
    "volume by minute and level, a day": "select time_bucket(interval 1 minute, timestamp) as minute, level, count(*) "
    "from logs where {day} group by all order by all",
    "p50, p95 and p99 by route, a day": "select route, quantile_cont(duration_ms, [0.5, 0.95, 0.99]), count(*) "
    "from logs where {day} and route is not null group by route",
    "top errors, the week": "select exception->>'type' as type, event, count(*), min(timestamp), max(timestamp) "
    "from logs where level = 'error' group by all order by 3 desc limit 10",
    "one trace, id and day": "select * from logs where trace_id = $trace and {day} order by timestamp",
    "one trace, id alone": "select * from logs where trace_id = $trace order by timestamp",
    "substring, an hour": "select * from logs where {hour} and (event ilike '%declined%' or "
    "fields::varchar ilike '%declined%') order by timestamp",
    "last 100 of a filter": "select * from logs where level = 'warning' and route = '/orders' "
    "order by timestamp desc limit 100",
    "volume by hour and level, the week": "select time_bucket(interval 1 hour, timestamp) as hour, level, count(*) "
    "from logs group by all order by all",
    "p50, p95 and p99 by route, the week": "select route, approx_quantile(duration_ms, [0.5, 0.95, 0.99]), count(*) "
    "from logs where route is not null group by route",
    "records by service and status, the week": "select service, status_code, count(*) from logs group by all",
    "substring of the message, the week": "select count(*) from logs where event like '%declined%'",
}
_DAY: Final = f"timestamp >= '{DAY}' and timestamp < '{DAY}'::timestamp + interval 1 day"
_HOUR: Final = f"timestamp >= '{DAY} 12:00' and timestamp < '{DAY} 13:00'"


def measure(directory: Path, *, records: int, rounds: int = 20) -> dict[str, Any]:
    """Fill a store in *directory*, and return every figure."""
    store = directory / "logs"
    began = time.perf_counter()
    line_bytes = make_segments(store / SEGMENTS, records=records, segment_bytes=DEFAULT_MAX_BYTES)
    found: dict[str, Any] = {"line_bytes": line_bytes, "making_seconds": time.perf_counter() - began}
    found |= compact_in_child(store)
    found["disk_share"] = parquet_bytes(store) / line_bytes
    found["files"] = len(Manifest.load(store).parquet)
    found["queries_ms"], found["queries_processor_ms"] = before, busy = ask(store, rounds)
    make_segments(directory / "live" / SEGMENTS, records=live_records(records), segment_bytes=2**40, days=1 / 24)
    numbers = Manifest.load(store).sealed
    for process in range(PROCESSES):
        source = directory / "live" / SEGMENTS / f"{process}-1.jsonl"
        source.rename(store / SEGMENTS / f"{process}-{numbers.get(str(process), 0) + 1}.jsonl")
    found["live_bytes"] = sum(segment.size_bytes for segment in Manifest.load(store).live_segments(store))
    after, busy_after = ask(store, rounds)
    found["live_ms"] = {name: after[name] - before[name] for name in before}
    found["live_processor_ms"] = {name: busy_after[name] - busy[name] for name in busy}
    return found


def live_records(records: int) -> int:
    """How many records four segments hold at their full size, or fewer for a small trial."""
    return min(records, int(PROCESSES * DEFAULT_MAX_BYTES / 500))


def compact_in_child(store: Path) -> dict[str, float]:
    """Compact as a service does: in a child process of low priority with one thread, every slot being free."""
    script = (
        "import dataclasses, json, os; from fapilog.store.compact import compact; os.nice(19); "
        f"print(json.dumps(dataclasses.asdict(compact({str(store)!r}, grace_seconds=0))))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        found = json.loads(child.stdout.read())
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert not found["problems"], found["problems"]
    processor = usage.ru_utime + usage.ru_stime
    seconds = found["seconds"] - found["merging_seconds"]
    return {
        "records": found["records"],
        "records_per_second": found["records"] / seconds,
        "records_per_second_of_processor": found["records"] / (processor * seconds / found["seconds"]),
        "merged_per_second": found["merged_records"] / max(found["merging_seconds"], 1e-9),
        "child_mb": usage.ru_maxrss / 1024,
    }


def parquet_bytes(store: Path) -> int:
    """Return how much all Parquet files take."""
    return sum(path.stat().st_size for path in (store / PARQUET).rglob("*.parquet"))


def ask(path: Path, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the median of each query over *rounds* in milliseconds, after two that warm up.

    The second is the processor's time, which tells more where the machine has other things to do.
    """
    figures, processor = {}, {}
    with LogStore(path) as store:
        some = "select trace_id from logs where timestamp >= $1::timestamp order by timestamp limit 1"
        ((trace,),) = store.rows(some, [f"{DAY} 09:00"])
        for name, template in QUERIES.items():
            query = template.replace("{day}", _DAY).replace("{hour}", _HOUR)
            params = {"trace": trace} if "$trace" in query else None
            times, spent = [], []
            for _ in range(rounds + 2):
                began, busy = time.perf_counter(), time.process_time()
                rows = store.sql(query, params).fetchall()
                times.append((time.perf_counter() - began) * 1000)
                spent.append((time.process_time() - busy) * 1000)
            assert rows or "hour" in name, name  # a trial may have none in an hour
            figures[name] = statistics.median(times[2:])
            processor[name] = statistics.median(spent[2:])
        assert store.warnings == []
    return figures, processor


class Meter:
    """Times log calls one by one in this process."""

    def __init__(self, info: Callable[..., object]) -> None:
        """Measure *info*."""
        self.info = info

    def p999_us(self, calls: int) -> float:
        """Return the 99.9 percent mark of *calls* calls in microseconds; they come at 10 000 a second."""
        times = []
        for number in range(calls):
            began = time.perf_counter_ns()
            self.info("order placed", order_id=number, sku="tea", quantity=2)
            times.append(time.perf_counter_ns() - began)
            if number % 10 == 9:
                time.sleep(0.001)
        times.sort()
        return times[int(len(times) * 0.999)] / 1000


def beside_compaction(directory: Path, *, records: int, calls: int) -> dict[str, float]:
    """Time log calls without and with a compaction running in a child, and what this process grows by meanwhile."""
    from benchmarks.memory import resident_mb
    from fapilog import configure_logging, get_logger

    def slots(where: Path) -> Path:
        make_segments(where / SEGMENTS, records=records, segment_bytes=DEFAULT_MAX_BYTES)
        for segment in sorted((where / SEGMENTS).iterdir()):  # slots that the sink of this process does not take
            slot, number = segment.stem.split("-")
            segment.rename(segment.with_name(f"{int(slot) + 100}-{number}.jsonl"))
        return where

    store = slots(directory / "beside")
    sink = {"type": "duckdb", "path": str(directory / "own"), "compaction": "off"}
    with configure_logging(sinks=[sink]) as handle:
        meter = Meter(get_logger("bench").info)
        meter.p999_us(calls)
        handle.flush(30)
        idle_mb, alone = resident_mb(), meter.p999_us(calls)
        beside: list[float] = []
        done = threading.Event()

        def compact() -> None:
            compact_in_child(store)
            done.set()

        thread = threading.Thread(target=compact)
        thread.start()
        while not done.is_set() or not beside:
            beside.append(meter.p999_us(min(calls, 2_000)))
        thread.join()
        handle.flush(30)
        return {
            "p999_alone_us": alone,
            "p999_beside_us": statistics.median(beside),
            "grown_mb": resident_mb() - idle_mb,
        }


def write_cost(directory: Path, *, records: int, rounds: int) -> dict[str, float]:
    """Compare records a second through the store's sink with the file sink's, in turns."""
    from fapilog import configure_logging, get_logger

    def play(name: str, number: int) -> float:
        path = directory / f"{name}-{number}"
        options = {"path": str(path)} if name == "duckdb" else {"path": f"{path}.jsonl"}
        with configure_logging(sinks=[{"type": name, **options}], queue_overflow="block") as handle:
            info = get_logger("bench").info
            for order in range(min(records, 2_000)):
                info("order placed", order_id=order, sku="tea", quantity=2, price=12.5, express=True)
            handle.flush(60)
            began = time.perf_counter()
            for order in range(records):
                info("order placed", order_id=order, sku="tea", quantity=2, price=12.5, express=True)
            handle.flush(60)
            return records / (time.perf_counter() - began)

    ratios, rates = [], []
    for number in range(rounds + 1):
        names = ("file", "duckdb") if number % 2 else ("duckdb", "file")
        found = {name: play(name, number) for name in names}
        if number:  # the first warms up
            ratios.append(found["duckdb"] / found["file"])
            rates.append(found["duckdb"])
    return {"store_over_file": statistics.median(ratios), "store_records_per_second": statistics.median(rates)}


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--quick", action="store_true", help="tiny numbers, to see whether everything runs")
    parser.add_argument("--directory", type=Path, help="where to make the store, which is deleted at the end")
    parser.add_argument("--results", type=Path, help="a file for the figures as JSON")
    arguments = parser.parse_args()
    quick = arguments.quick
    records = 20_000 if quick else arguments.records
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-", dir=arguments.directory))
        result: dict[str, Any] = {"machine": facts(), "quick": quick}
        result |= measure(Path(name), records=records, rounds=2 if quick else 20)
        result |= beside_compaction(Path(name), records=min(records, 1_000_000), calls=500 if quick else 20_000)
        result |= write_cost(Path(name), records=1_000 if quick else 50_000, rounds=1 if quick else 9)
    _print(result)
    if arguments.results is not None:
        arguments.results.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def _print(found: dict[str, Any]) -> None:
    print(f"\n{found['records']:,} records over {DAYS} days, {found['line_bytes'] / 1e6:,.0f} MB as JSON lines\n")
    print(f"  {'':<44}{'found':>12}{'bar':>12}")

    def row(
        name: str, value: float, bar: float, *, at_least: bool = False, digits: int = 0, also: float | None = None
    ) -> None:
        met = value >= bar if at_least else value <= bar
        sign = ">=" if at_least else "<="
        limit = f"{sign} {bar:,.{digits}f}"
        beside = "" if also is None else f"{also:>12,.1f}"
        print(f"  {name:<44}{value:>12,.{digits}f}{limit:>12}{beside}{'' if met else '   missed'}")

    row("share of the disk", found["disk_share"], DISK_SHARE, digits=3)
    row("records compacted a second", found["records_per_second"], RECORDS_PER_SECOND, at_least=True)
    row("of the processor's time", found["records_per_second_of_processor"], RECORDS_PER_SECOND, at_least=True)
    row("resident memory of the child, MB", found["child_mb"], CHILD_MB)
    print(f"\n  milliseconds, and those of the processors{'':<31}processors")
    for name, bar in BARS.items():
        row(name, found["queries_ms"][name], bar, digits=1, also=found["queries_processor_ms"][name])
    print("\n  what full segments of four processes add to that")
    for name in BARS:
        row(name, found["live_ms"][name], LIVE_MS, digits=1, also=found["live_processor_ms"][name])
    print()
    row("p99.9 of a call beside a compaction / alone", found["p999_beside_us"] / found["p999_alone_us"], 2, digits=2)
    row("records a second, over the file sink's", found["store_over_file"], 0.85, at_least=True, digits=2)
    print(f"  {found['merged_per_second']:,.0f} records a second merged afterwards, into {found['files']} files")
    print(f"  this process grew by {found['grown_mb']:.1f} MB while another compacted")


if __name__ == "__main__":
    sys.exit(main())
