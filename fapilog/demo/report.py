"""What the store says about the shop: four questions in SQL, printed as plain tables."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fapilog.store import LogStore
from fapilog.store.output import write_table
from fapilog.store.query import Rows

PER_PROCESS: Final = """
    SELECT pid, count(*) AS records, count(DISTINCT trace_id) AS requests,
           count(*) FILTER (level = 'warning') AS warnings, count(*) FILTER (level = 'error') AS errors
    FROM logs GROUP BY pid ORDER BY pid
"""
SLOWEST_ROUTES: Final = """
    SELECT method || ' ' || coalesce(route, path) AS route, count(*) AS requests,
           round(quantile_cont(duration_ms, 0.50), 1) AS p50_ms,
           round(quantile_cont(duration_ms, 0.95), 1) AS p95_ms,
           round(quantile_cont(duration_ms, 0.99), 1) AS p99_ms
    FROM logs WHERE logger = 'fapilog.access' GROUP BY ALL ORDER BY p95_ms DESC LIMIT 6
"""
ERRORS_BY_ROUTE: Final = """
    SELECT method || ' ' || coalesce(route, path) AS route, status_code AS status, count(*) AS requests,
           coalesce(any_value(exception ->> 'type'), '') AS exception
    FROM logs WHERE logger = 'fapilog.access' AND status_code >= 400 GROUP BY ALL ORDER BY requests DESC, route
"""
FULLEST_TRACE: Final = """
    SELECT trace_id FROM logs WHERE trace_id IN (SELECT unnest($traces)) GROUP BY trace_id
    ORDER BY bool_or(status_code = 201) DESC NULLS LAST, count(*) DESC, trace_id LIMIT 1
"""
ONE_TRACE: Final = """
    SELECT strftime(timestamp, '%H:%M:%S.%f') AS time, level, logger, event,
           coalesce(user_id, '') AS user, coalesce(duration_ms::VARCHAR, fields ->> 'duration_ms', '') AS ms,
           coalesce(fields::VARCHAR, '') AS fields
    FROM logs WHERE trace_id = $trace ORDER BY timestamp, id
"""
IDS: Final = "SELECT id FROM logs"


def ids(path: Path) -> list[str]:
    """Return the id of every record in the store."""
    with LogStore(path) as store:
        return [row[0] for row in store.rows(IDS)]


def show(path: Path, traces: Iterable[str]) -> None:
    """Print records per server process, slowest routes, errors by route, and the fullest one of *traces*."""
    with LogStore(path) as store:
        _table("records per server process", store.rows(PER_PROCESS))
        _table("slowest routes", store.rows(SLOWEST_ROUTES))
        _table("errors by route", store.rows(ERRORS_BY_ROUTE))
        for (trace,) in store.rows(FULLEST_TRACE, {"traces": list(traces)}):
            _table(f"one trace, {trace}, whose id came from the client", store.rows(ONE_TRACE, {"trace": trace}))


def _table(title: str, rows: Rows) -> None:
    print(f"\n{title}\n")
    write_table(rows, sys.stdout)
    sys.stdout.flush()
