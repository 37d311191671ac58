"""Make a week of records as a shop's service writes them: the segments of four processes.

Three to five records a request share its ids; twenty messages; forty fields in play, a few on each record; one
request in 25 fails, so that one record in a hundred is an error with its stack. What is drawn depends on the
number of the request alone: two runs make the same records.
"""

import datetime
import os
from pathlib import Path
from string import Template
from typing import Final

import duckdb

PROCESSES: Final = 4
DAYS: Final = 7
BEGIN: Final = datetime.datetime(2026, 11, 9, tzinfo=datetime.UTC)
RECORDS_A_REQUEST: Final = 4.0
_BYTES_A_RECORD: Final = 560

_ROUTES: Final = (
    ("GET", "/"),
    ("GET", "/items"),
    ("GET", "/items/{sku}"),
    ("GET", "/basket"),
    ("POST", "/basket"),
    ("DELETE", "/basket/{line}"),
    ("POST", "/orders"),
    ("GET", "/orders"),
    ("GET", "/orders/{id}"),
    ("POST", "/payments"),
    ("GET", "/search"),
    ("GET", "/users/{id}"),
)
_EVENTS: Final = (
    ("user loaded", "shop.users"),
    ("cache miss", "shop.cache"),
    ("cache hit", "shop.cache"),
    ("query finished", "shop.db"),
    ("basket changed", "shop.basket"),
    ("stock checked", "shop.stock"),
    ("price computed", "shop.prices"),
    ("order placed", "shop.orders"),
    ("order read", "shop.orders"),
    ("payment authorised", "shop.payments"),
    ("mail queued", "shop.mail"),
    ("search answered", "shop.search"),
    ("session renewed", "shop.users"),
    ("discount applied", "shop.prices"),
    ("address checked", "shop.users"),
    ("stock reserved", "shop.stock"),
)
_FAILURES: Final = (
    ("payment declined", "PaymentError", "card declined by the issuer, code 51"),
    ("order failed", "IntegrityError", "duplicate key value violates unique constraint orders_pkey"),
    ("upstream timed out", "TimeoutError", "stock.internal did not answer within 2.0 s"),
)
_FIELDS: Final = (  # name, and what draws its value, as SQL of JSON
    ("order_id", "drawn % 9000000"),
    ("sku", """'"sku-' || drawn % 4000 || '"'"""),
    ("quantity", "1 + drawn % 9"),
    ("amount", "drawn % 50000 / 100.0"),
    ("currency", """'"' || ['EUR', 'USD', 'GBP'][1 + drawn % 3] || '"'"""),
    ("cache_key", """'"item:' || drawn % 4000 || '"'"""),
    ("rows", "drawn % 200"),
    ("query_ms", "drawn % 9000 / 100.0"),
    ("table", """'"' || ['orders', 'items', 'users', 'baskets'][1 + drawn % 4] || '"'"""),
    ("attempt", "1 + drawn % 3"),
    ("warehouse", """'"' || ['hamburg', 'lyon', 'gdansk'][1 + drawn % 3] || '"'"""),
    ("in_stock", "['true', 'false'][1 + drawn % 2]"),
    ("customer_id", "drawn % 200000"),
    ("discount", "drawn % 30 / 100.0"),
    ("queue", """'"mail-' || drawn % 8 || '"'"""),
)

_VALUES: Final = ", ".join(
    f"CASE WHEN (which + {number}) % {len(_FIELDS)} < 4 THEN ',\"{name}\":' || "
    + f"({value.replace('drawn', f'(hash(r, k, {number}) % 1000000007)::BIGINT')}) END"
    for number, (name, value) in enumerate(_FIELDS)
)

_LINES: Final = r"""
WITH requests AS (
    SELECT r, (hash(r) % 1000000007)::BIGINT AS h, (hash(r, 7) % 1000000007)::BIGINT AS g,
        (hash(r, 13) % 1000000007)::BIGINT AS f, hash(r) AS h64, hash(r, 7) AS g64, hash(r, 13) AS f64,
        (3 + hash(r, 3) % 3)::BIGINT AS n, hash(r, 5) % 25 = 0 AS failed,
        $begin + (r * $microseconds)::BIGINT AS began
    FROM (SELECT unnest(range($first, $last, $processes)) AS r)
),
records AS (
    SELECT *, k = n AS access, failed AND k = n - 1 AS error, (hash(r, k) % 1000000007)::BIGINT AS e,
        began + (k * (1500 + h % 9000))::BIGINT + (g % 997)::BIGINT AS moment,
        1 + (hash(r % 5, k % 3, h % 4) % 1009)::BIGINT % len($events) AS which, 1 + (h >> 20) % 3 AS failure,
        1 + (h >> 8) % len($methods) AS route
    FROM (SELECT *, unnest(range(1, n + 1)) AS k FROM requests)
),
numbered AS (SELECT *, $sequence + row_number() OVER (ORDER BY r, k) AS sequence FROM records)
SELECT concat(
    '{"timestamp":"', strftime(make_timestamp(moment), '%Y-%m-%dT%H:%M:%S.%fZ'), '","level":"',
    CASE WHEN error THEN 'error' WHEN access THEN CASE WHEN failed THEN 'warning' ELSE 'info' END
        WHEN e % 11 = 0 THEN 'warning' WHEN e % 3 = 0 THEN 'debug' ELSE 'info' END,
    '","event":"', CASE WHEN error THEN $failures[failure] WHEN access THEN 'request finished' ELSE $events[which] END,
    '","logger":"', CASE WHEN error THEN 'shop.errors' WHEN access THEN 'fapilog.access' ELSE $loggers[which] END,
    '","trace_id":"', printf('%016x%016x', h64, g64), '","span_id":"', printf('%016x', f64),
    '","request_id":"', printf('%016x%016x', h64, g64), '"',
    CASE WHEN h % 5 = 0 THEN printf(',"parent_span_id":"%016x"', hash(r, 17)) END,
    CASE WHEN access THEN concat(
        ',"method":"', $methods[route], '","path":"', regexp_replace($routes[route], '[{].*', (g % 90000)::VARCHAR),
        '","route":"', $routes[route],
        '","status_code":', CASE WHEN failed THEN 500 WHEN h % 40 = 1 THEN 404 ELSE 200 END,
        ',"duration_ms":', round(exp(1 + (f % 10000) / 2000.0), 3),
        ',"request_bytes":', CASE WHEN h % 4 = 0 THEN g % 2000 ELSE 0 END, ',"response_bytes":', 100 + f % 20000,
        ',"client_ip":"10.', h % 4, '.', g % 250, '.', f % 250, '","user_agent":"', $agents[1 + (h >> 4) % 3],
        '","user_id":"u-', g % 200000, '","scheme":"http","http_version":"1.1","ttfb_ms":',
        round(exp((f % 10000) / 2000.0), 3))
    WHEN error THEN concat(
        ',"exception":{"type":"', $types[failure], '","message":"', $messages[failure],
        '","stacktrace":"Traceback (most recent call last):\n  File \"/app/shop/', $modules[failure], '.py\", line ',
        40 + failure, ', in handle\n    await self.client.send(order, timeout=2.0)\n  File \"/app/shop/client.py\", ',
        'line 118, in send\n    raise failure from error\n', $types[failure], ': ', $messages[failure],
        '"},"order_id":', h % 9000000)
    ELSE concat($values) END,
    ',"id":"', printf('%016x', hash($process, 99)), '-', sequence, '","service":"shop","env":"production",',
    '"version":"2.14.0","host":"shop-6d4f8b7c9-x2xvq","pid":', 70 + $process, '}') AS line
FROM numbered ORDER BY moment
"""

_LISTS: Final = {
    "events": [event for event, _ in _EVENTS],
    "loggers": [logger for _, logger in _EVENTS],
    "methods": [method for method, _ in _ROUTES],
    "routes": [route for _, route in _ROUTES],
    "failures": [event for event, _, _ in _FAILURES],
    "types": [kind for _, kind, _ in _FAILURES],
    "messages": [message for _, _, message in _FAILURES],
    "modules": ["payments", "orders", "stock"],
    "agents": [
        "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
        "shop-app/4.2.1 okhttp/5.1",
    ],
}


def make_segments(directory: Path, *, records: int, segment_bytes: int, days: float = DAYS) -> int:
    """Write about *records* records over *days* into *directory*, in segments of about *segment_bytes*.

    The last segment of each process is the one it would still write to.

    Returns:
        How many bytes all lines have together.
    """
    directory.mkdir(parents=True, exist_ok=True)
    requests = int(records / RECORDS_A_REQUEST)
    begin, microseconds = int(BEGIN.timestamp() * 1e6), days * 86_400e6 / max(requests, 1)
    step = max(int(segment_bytes / _BYTES_A_RECORD / RECORDS_A_REQUEST), 1) * PROCESSES
    total = 0
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for number, first in enumerate(range(0, requests, step), start=1):
            last = min(first + step, requests)
            ended = (begin + last * microseconds) / 1e6
            for process in range(PROCESSES):
                path = directory / f"{process}-{number}.jsonl"
                lines = Template(_LINES).substitute(
                    _LISTS,
                    values=_VALUES,
                    begin=begin,
                    microseconds=microseconds,
                    first=first + process,
                    last=last,
                    processes=PROCESSES,
                    process=process,
                    sequence=first // PROCESSES * 5,
                )
                connection.execute(
                    f"COPY ({lines}) TO '{path}' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01')"
                )
                os.utime(path, (ended, ended))
                total += path.stat().st_size
    return total
