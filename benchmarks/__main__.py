"""Run every benchmark, print tables, and keep the figures as JSON."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import calls, throughput
from benchmarks.contestants import BARE_STRUCTLOG, NEEDS, PEERS
from benchmarks.machine import facts
from benchmarks.measure import in_fresh_process

RESULTS = Path(__file__).parent / "results"
BARS = {
    "times bare structlog + orjson": 2.2,
    "microseconds a request over the bare app": 16.0,
    "megabytes with configure_logging over without": 10.0,
    "microseconds of redaction by names": 0.4,
    "microseconds of redaction in all, texts new": 1.5,
}
"""What fapilog promises of itself: at least the first, at most the others."""


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny numbers, to see whether everything runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the directory the JSON goes to")
    arguments = parser.parse_args()
    quick = arguments.quick
    result: dict[str, Any] = {"machine": facts(), "quick": quick}
    _print_machine(result["machine"])
    result["throughput"] = compare_throughput(records=1_000 if quick else 50_000, rounds=2 if quick else 9)
    result["calls"] = compare_calls(number=1_000 if quick else 30_000, rounds=2 if quick else 7)
    result["redaction"] = compare_redaction(["--records=500", "--rounds=2"] if quick else [])
    result["request"] = compare_requests(["--requests=200", "--rounds=2"] if quick else [])
    result["memory"] = compare_memory(["--records=5000"] if quick else [])
    if quick:
        print("\nthese figures mean nothing: --quick only shows that everything runs")
    else:
        result["bars"] = bars(result)
    results: Path = arguments.results
    results.mkdir(parents=True, exist_ok=True)
    kept = results / f"{result['machine']['date'].replace(':', '')}-{result['machine']['commit'] or 'no-commit'}.json"
    kept.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nkept in {kept}")
    return 0


def compare_throughput(*, records: int, rounds: int) -> dict[str, Any]:
    """Compare with every peer in turn."""
    print("\nOne thread logs 5 keywords and 2 context ids as JSON to a file: microseconds a record, end to end")
    print("median (lowest-highest) of the rounds; how many times as long as fapilog, round by round\n")
    print(f"  {'peer':<40}{'fapilog':>20}{'peer':>26}{'peer / fapilog':>22}")
    found: dict[str, Any] = {}
    for name in PEERS:
        needed = NEEDS.get(name)
        if needed is not None and importlib.util.find_spec(needed) is None:
            found[name] = {"skipped": f"{needed} is not installed"}
            print(f"  {name:<40}skipped: {needed} is not installed")
            continue
        pair = found[name] = throughput.compare(name, records=records, rounds=rounds)
        ours, theirs, ratio = (_spread(pair[key]) for key in ("ours_us", "theirs_us", "ratio"))
        print(f"  {name:<40}{ours:>20}{theirs:>26}{ratio:>22}", flush=True)
    return found


def compare_calls(*, number: int, rounds: int) -> Any:
    """Print what single calls cost the caller."""
    found = calls.compare(BARE_STRUCTLOG, calls=number, rounds=rounds)
    print("\nOne log call, as the thread that logs sees it: microseconds, the clock's own cost included\n")
    print(f"  {'':<40}{'mean':>10}{'p50':>10}{'p99':>10}{'p99.9':>10}{'max':>10}")
    for name, each in found.items():
        figures = "".join(f"{each[key]:>10.2f}" for key in ("mean_us", "p50_us", "p99_us", "p999_us", "max_us"))
        print(f"  {name:<40}{figures}", flush=True)
    return found


def compare_redaction(arguments: list[str]) -> Any:
    """Print what default redaction costs a record in which nothing is secret."""
    found = in_fresh_process("benchmarks.redaction", *arguments)
    print("\nDefault redaction of a clean record of 5 keywords, two of them short texts: microseconds\n")
    for key, name in (
        ("names_us", "names"),
        ("again_us", "in all, texts met before"),
        ("new_us", "in all, each text new"),
    ):
        print(f"  {name:<40}{_spread(found[key]):>22}", flush=True)
    return found


def compare_requests(arguments: list[str]) -> Any:
    """Print what a request costs more."""
    found = in_fresh_process("benchmarks.request", *arguments)
    print("\nOne request through FastAPI in process: microseconds\n")
    print(f"  {'':<40}{'mean of a round':>22}{'p50':>10}{'p99':>10}")
    for name in ("bare", "fapilog"):
        each = found[name]
        print(f"  {name:<40}{_spread(each['mean_us']):>22}{each['p50_us']:>10.2f}{each['p99_us']:>10.2f}")
    print(f"  {'fapilog over bare, round by round':<40}{_spread(found['over_bare_us']):>22}", flush=True)
    return found


def compare_memory(arguments: list[str]) -> dict[str, Any]:
    """Print resident memory, each figure from a process of its own."""
    variants = ("bare", "imported", "fapilog")
    found = {name: in_fresh_process("benchmarks.memory", name, *arguments) for name in variants}
    idle, before, after = found["imported"]["idle_mb"], found["fapilog"]["idle_mb"], found["fapilog"]["after_mb"]
    found["over_without_mb"] = {"idle": before - idle, "after": after - idle}
    found["import_mb"] = {"idle": idle - found["bare"]["idle_mb"]}
    print("\nResident memory of a FastAPI app, fapilog with stdout and duckdb: MB\n")
    print(f"  {'':<44}{'idle':>8}{'more':>8}{'after logging':>16}{'more':>8}")
    print(f"  {'without fapilog':<44}{found['bare']['idle_mb']:>8.1f}")
    print(f"  {'fapilog imported, configure_logging not called':<44}{idle:>8.1f}{found['import_mb']['idle']:>8.1f}")
    print(
        f"  {'with configure_logging':<44}{before:>8.1f}{before - idle:>8.1f}{after:>16.1f}{after - idle:>8.1f}",
        flush=True,
    )
    return found


def bars(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Hold the figures against what is promised."""
    measured = {
        "times bare structlog + orjson": result["throughput"][BARE_STRUCTLOG]["ratio"]["median"],
        "microseconds a request over the bare app": result["request"]["over_bare_us"]["median"],
        "megabytes with configure_logging over without": max(result["memory"]["over_without_mb"].values()),
        "microseconds of redaction by names": result["redaction"]["names_us"]["median"],
        "microseconds of redaction in all, texts new": result["redaction"]["new_us"]["median"],
    }
    print("\nPromised\n")
    held = {}
    for name, bar in BARS.items():
        at_least = name.startswith("times")
        met = measured[name] >= bar if at_least else measured[name] <= bar
        held[name] = {"bar": bar, "measured": measured[name], "met": met}
        bound = f"{'at least' if at_least else 'at most'} {bar:g}"
        print(f"  {name:<46}{bound:>14}   measured {measured[name]:>6.2f}   {'met' if met else 'MISSED'}")
    return held


def _spread(figures: dict[str, float]) -> str:
    return f"{figures['median']:.2f} ({figures['low']:.2f}-{figures['high']:.2f})"


def _print_machine(machine: dict[str, Any]) -> None:
    print(f"{machine['python']}, {machine['system']}, {machine['cpus']} x {machine['cpu']}")
    versions = [f"{name} {number}" for name, number in machine["versions"].items() if number and name != "fapilog"]
    if machine["load"] > 1:
        print(f"the machine is busy (load {machine['load']:.1f}); look at the spreads")
    print(f"fapilog at {machine['commit']}{' with changes' if machine['changed'] else ''}; {', '.join(versions)}")


if __name__ == "__main__":
    sys.exit(main())
