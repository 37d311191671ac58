"""Count what was logged: how much over time, which events, how the routes did, and who wrote."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from fapilog.store.conditions import Parameters, between, condition
from fapilog.store.models import LogQuery
from fapilog.store.searching import Fetch

TOP: Final = 20
"""How many events are told."""

MAX_ROUTES: Final = 200
MAX_WORKERS: Final = 200
MAX_BUCKETS: Final = 60
"""How many steps of time `Statistics.volume` has about, at most, if the time range has an end on both sides."""

_STEPS_SECONDS: Final = (
    *(1, 5, 10, 30),
    *(minutes * 60 for minutes in (1, 5, 10, 30)),
    *(hours * 3_600 for hours in (1, 3, 6, 12)),
    *(days * 86_400 for days in (1, 7, 28, 364)),
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MODEL: Final = ConfigDict(frozen=True, use_attribute_docstrings=True)


class VolumeBucket(BaseModel):
    """What was logged in one step of time."""

    model_config = _MODEL

    start: datetime
    records: int
    levels: dict[str, int]
    """How many records of each level; a level without any is left out."""


class EventCount(BaseModel):
    """How often one event was logged at one level."""

    model_config = _MODEL

    event: str | None
    level: str | None
    records: int


class RouteStatistics(BaseModel):
    """How one route did, by its access records."""

    model_config = _MODEL

    method: str | None
    route: str | None
    """None for requests that no route took."""

    requests: int
    per_second: float
    """Requests a second, over the whole time range."""

    errors: int
    """How many were answered with a status of 500 or above."""

    error_rate: float
    """The share of `errors` in `requests`, from 0 to 1."""

    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class WorkerStatistics(BaseModel):
    """What one process logged."""

    model_config = _MODEL

    service: str | None
    host: str | None
    pid: int | None
    records: int
    first_seen: datetime | None
    last_seen: datetime | None


class Statistics(BaseModel):
    """What was logged in a time range."""

    model_config = _MODEL

    since: datetime | None
    """The beginning of the time range, or the first record; None if there is no record."""

    until: datetime | None
    """The end of the time range, or the moment of asking."""

    records: int
    levels: dict[str, int]
    bucket_seconds: int
    """How long each step of `volume` is."""

    volume: list[VolumeBucket]
    """Each step of time from the first with a record to the last, oldest first."""

    events: list[EventCount]
    """The most frequent ones, most frequent first."""

    requests: int
    errors: int
    """How many requests were answered with a status of 500 or above."""

    error_rate: float
    """The share of `errors` in `requests`, from 0 to 1; 0 if there were none."""

    routes: list[RouteStatistics]
    """Most requests first."""

    workers: list[WorkerStatistics]
    """The processes that wrote, most records first."""

    warnings: list[str] = []
    """What had to be left out, such as a damaged file; empty if nothing."""


def statistics(query: LogQuery, fetch: Fetch, *, now: datetime) -> Statistics:
    """Count what *query* finds; its order and page do not matter."""
    since, until = query.bounds(now)
    parameters = Parameters()
    where = condition(query.node(), parameters, now=now)
    if since is not None or until is not None:
        where += f" AND {between(since, until, parameters)}"

    def ask(statement: str) -> list[tuple[Any, ...]]:
        wanted = statement.replace("FROM logs", f"FROM logs WHERE {where}")
        return fetch(wanted, parameters.values, since=since, until=until)

    begin = since
    if begin is None:
        ((oldest,),) = ask("SELECT min(timestamp) FROM logs")
        begin = _utc(oldest)
    end = now if until is None else until
    step = _step(begin, end)
    counted = ask(
        "SELECT * FROM (SELECT GROUPING(bucket, event, pid) AS kind, bucket, level, event, service, host, pid, "  # noqa: S608 - the step is ours
        "count(*) AS records, min(timestamp) AS oldest, max(timestamp) AS newest "
        f"FROM (SELECT epoch_us(timestamp) // {step * 1_000_000} AS bucket, timestamp, level, event, service, host, "
        "pid FROM logs) GROUP BY GROUPING SETS ((bucket, level), (event, level), (service, host, pid))) "
        "QUALIFY kind = 3 OR row_number() OVER (PARTITION BY kind ORDER BY records DESC, event, level, host, pid) <= "
        f"CASE kind WHEN 5 THEN {TOP} ELSE {MAX_WORKERS} END ORDER BY records DESC, event, level, host, pid"
    )
    routes, requests, errors = _routes(ask, (end - begin).total_seconds() if begin is not None else 0.0)
    levels: dict[str, int] = {}
    for _, _, level, *_, records, _, _ in (row for row in counted if row[0] == 3):
        levels[str(level)] = levels.get(str(level), 0) + records
    return Statistics(
        since=begin,
        until=end,
        records=sum(levels.values()),
        levels=levels,
        bucket_seconds=step,
        volume=_volume([row for row in counted if row[0] == 3], step),
        events=[EventCount(level=row[2], event=row[3], records=row[7]) for row in counted if row[0] == 5],
        requests=requests,
        errors=errors,
        error_rate=errors / requests if requests else 0.0,
        routes=routes,
        workers=[
            WorkerStatistics(
                service=row[4],
                host=row[5],
                pid=row[6],
                records=row[7],
                first_seen=_utc(row[8]),
                last_seen=_utc(row[9]),
            )
            for row in counted
            if row[0] == 6
        ],
    )


def _routes(ask: Any, seconds: float) -> tuple[list[RouteStatistics], int, int]:
    rows = ask(
        "SELECT method, route, count(*) AS requests, count(*) FILTER (status_code >= 500) AS errors, "  # noqa: S608 - of constants
        "quantile_cont(duration_ms, [0.5, 0.95, 0.99]), sum(count(*)) OVER (), "
        "sum(count(*) FILTER (status_code >= 500)) OVER () FROM logs AND logger = 'fapilog.access' "
        f"GROUP BY method, route ORDER BY requests DESC, method, route LIMIT {MAX_ROUTES}"
    )
    routes = [
        RouteStatistics(
            method=method,
            route=route,
            requests=requests,
            per_second=requests / seconds if seconds > 0 else 0.0,
            errors=errors,
            error_rate=errors / requests,
            **dict(zip(("p50_ms", "p95_ms", "p99_ms"), quantiles or (None, None, None), strict=True)),
        )
        for method, route, requests, errors, quantiles, *_ in rows
    ]
    return routes, int(rows[0][5]) if rows else 0, int(rows[0][6]) if rows else 0


def _volume(rows: list[tuple[Any, ...]], step: int) -> list[VolumeBucket]:
    buckets: dict[int, dict[str, int]] = {}
    for row in rows:
        if row[1] is not None:  # a record without a time is in no step
            buckets.setdefault(row[1], {})[str(row[2])] = row[7]
    numbers = sorted(buckets)
    if numbers and numbers[-1] - numbers[0] <= 20 * MAX_BUCKETS:  # else a clock was wrong somewhere
        numbers = list(range(numbers[0], numbers[-1] + 1))
    return [
        VolumeBucket(
            start=_EPOCH + timedelta(seconds=number * step),
            records=sum(buckets.get(number, {}).values()),
            levels=buckets.get(number, {}),
        )
        for number in numbers
    ]


def _step(begin: datetime | None, end: datetime) -> int:
    seconds = 0.0 if begin is None else (end - begin).total_seconds()
    return next((step for step in _STEPS_SECONDS if seconds <= step * MAX_BUCKETS), _STEPS_SECONDS[-1])


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
