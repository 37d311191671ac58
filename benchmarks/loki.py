"""Log many records to a Loki-speaking receiver in another process, and wait until it has all of them.

The receiver takes each push as Loki does, unpacks it and counts its entries; it stores nothing. Figures are records a
second from the first call until the last record has arrived there.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from benchmarks.contestants import IDS
from benchmarks.machine import facts
from benchmarks.measure import ROOT, Spread, in_fresh_process

BAR: float = 80_000.0
"""Records a second that fapilog promises, on two cores."""

WARM_UP: int = 2_000


def compare(*, records: int, rounds: int, bodies: tuple[str, ...] = ("protobuf", "json")) -> dict[str, Any]:
    """Return records a second, and microseconds of processor time a record, for each body; each round a process."""
    found: dict[str, Any] = {}
    for body in bodies:
        played = [
            in_fresh_process("benchmarks.loki", "--play", f"--body={body}", f"--records={records}")
            for _ in range(rounds)
        ]
        found[body] = {
            name: asdict(Spread.of([each[name] for each in played]))
            for name in ("records_per_second", "caller_us", "processor_us", "receiver_us")
        }
        found[body]["dropped"] = sum(each["dropped"] for each in played)
    return found


def play(records: int, body: str) -> dict[str, float]:
    """Log to a receiver that was started for this, and time it.

    Raises:
        AssertionError: Some records have not arrived and were not counted as dropped either.
    """
    from fapilog import configure_logging, get_logger
    from fapilog.context import RequestContext, current_request

    with _receiver() as (url, count), tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        with configure_logging(
            sinks=[url],
            loki={"body": body},
            spool_path=Path(directory),
            service="shop",
            env="benchmark",
            version="1.0.0",
            access_log=False,
            block_timeout_seconds=60,
        ) as handle:
            current_request.set(RequestContext(IDS))
            info = get_logger("bench").info

            def log(number: int) -> None:
                for each in range(number):
                    info("order placed", order_id=each, sku="tea", quantity=2, price=12.5, express=True)

            def finish(number: int) -> None:
                handle.flush(60)
                until = time.monotonic() + 60
                while count() < number - handle.stats().lost and time.monotonic() < until:
                    time.sleep(0.002)

            log(WARM_UP)
            finish(WARM_UP)
            used, theirs = _processor_seconds(), _of_receiver(url)
            began = time.perf_counter()
            log(records)
            returned = time.perf_counter() - began
            finish(records + WARM_UP)
            total = time.perf_counter() - began
            used, theirs = _processor_seconds() - used, _of_receiver(url) - theirs
            arrived, dropped = count(), handle.stats().lost
        assert arrived + dropped == records + WARM_UP, f"{arrived} of {records + WARM_UP} arrived, {dropped} dropped"
    return {
        "records_per_second": (records - dropped) / total,
        "caller_us": returned / records * 1e6,
        "processor_us": used / records * 1e6,
        "receiver_us": theirs / records * 1e6,
        "dropped": dropped,
    }


@contextlib.contextmanager
def _receiver() -> Iterator[tuple[str, Any]]:
    """Start a receiver, and give its URL and what asks it how many entries it has."""
    with Popen([sys.executable, "-m", "benchmarks.loki", "--receive"], stdout=PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        url = f"loki://127.0.0.1:{int(process.stdout.readline())}"
        try:
            yield url, lambda: _ask(url)["entries"]
        finally:
            process.terminate()


def _ask(url: str) -> dict[str, Any]:
    import urllib.request

    with urllib.request.urlopen(url.replace("loki", "http"), timeout=30) as response:  # noqa: S310 - our own
        found: dict[str, Any] = json.loads(response.read())
    return found


def _of_receiver(url: str) -> float:
    seconds: float = _ask(url)["processor_seconds"]
    return seconds


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class _Receiver:
    """Takes pushes and counts."""

    def __init__(self) -> None:
        self.entries = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request after the other."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
                body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
                if head.startswith(b"post "):
                    self.entries += _count(body, fields[b"content-type"])
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                else:
                    said = json.dumps({"entries": self.entries, "processor_seconds": _processor_seconds()}).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
                await writer.drain()
        writer.close()


def _count(body: bytes, kind: bytes) -> int:
    """Unpack a push and count its entries."""
    if kind == b"application/json":
        import gzip

        import orjson

        return sum(len(stream["values"]) for stream in orjson.loads(gzip.decompress(body))["streams"])
    import cramjam

    message = bytes(cramjam.snappy.decompress_raw(body))
    found = at = 0
    while at < len(message):
        size, at = _varint(message, at + 1)
        end = at + size
        while at < end:
            found += message[at] == 0x12
            size, at = _varint(message, at + 1)
            at += size
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := message[at]) > 127:
        value |= (byte & 127) << shift
        shift += 7
        at += 1
    return value | byte << shift, at + 1


async def _receive() -> None:
    server = await asyncio.start_server(_Receiver().serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> int:
    """Measure and print; or play one part of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loki", description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--body", choices=("protobuf", "json"), help="only this one")
    parser.add_argument("--play", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.receive:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_receive())
        return 0
    if arguments.play:
        print(json.dumps(play(arguments.records, arguments.body)))
        return 0
    machine = facts()
    print(f"{machine['python']}, {machine['cpus']} x {machine['cpu']}, load {os.getloadavg()[0]:.1f}")
    print(
        f"{arguments.records} records to a receiver in another process, {arguments.rounds} rounds: median (low-high)\n"
    )
    bodies = (arguments.body,) if arguments.body else ("protobuf", "json")
    for body, each in compare(records=arguments.records, rounds=arguments.rounds, bodies=bodies).items():
        rate = Spread(**each["records_per_second"])
        ours, theirs = Spread(**each["processor_us"]), Spread(**each["receiver_us"])
        print(
            f"  {body:<10}{rate:,.0f} records/s; processor time {ours:.1f} us a record, the receiver's {theirs:.1f} us"
        )
        print(f"  {'':<10}dropped {each['dropped']}; promised {BAR:,.0f}: {'met' if rate.median >= BAR else 'MISSED'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
