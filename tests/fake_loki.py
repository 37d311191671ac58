"""A Loki in a process of its own: it takes and refuses what a real Loki 3 took and refused, in the same words.

``tests/sinks/loki_contract.json`` holds what the real one answered; ``tests/sinks/test_loki_contract.py`` replays it.
"""

import asyncio
import contextlib
import gzip
import json
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

if __name__ == "__main__":  # started in isolation, so that the environment of a test cannot reach in
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cramjam

from tests import receiver
from tests.loki_wire import Entry, decode_push
from tests.receiver import Receiver

NS = 10**9
LIMITS: dict[str, Any] = {
    "max_line_size": 262_144,
    "max_label_names": 15,
    "max_label_value": 2_048,
    "max_label_name": 1_024,
    "max_metadata_bytes": 65_536,
    "max_metadata_entries": 128,
    "reject_old_seconds": 7 * 86_400,
    "grace_seconds": 600,
    "behind_seconds": 3_600,
    "rate_bytes": 4 * 1024 * 1024,
    "burst_bytes": 6 * 1024 * 1024,
    "max_streams": 5_000,
    "max_body": 104_857_600,
    "metadata": True,
    "auth": False,
    "blocked": False,
    "max_returned_errors": 10,
}
SERVICE_NAMES = ("service", "app", "application", "app_name", "name", "container", "job")


class RefusedError(Exception):
    """A push is refused: its status and what is said."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status
        self.said = said


class LokiReceiver(Receiver):
    """Loki, running in its own process. Beside what any receiver can do it has limits, and keeps streams."""

    program: ClassVar[Path] = Path(__file__).resolve()

    def limit(self, **limits: Any) -> None:
        """Set these of `LIMITS`."""
        self._ask("/limits", limits)

    def streams(self) -> dict[str, list[tuple[int, str, dict[str, str]]]]:
        """Return what is stored: entries in order of arrival, by the text of their labels."""
        found: dict[str, list[tuple[int, str, dict[str, str]]]] = json.loads(self._ask("/streams", None))
        return found

    def stored(self) -> list[dict[str, Any]]:
        """Return every line that is stored, as the record it is."""
        return [json.loads(line) for entries in self.streams().values() for _, line, _ in entries]


class Loki:
    """What is stored, and what may be."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.limits = dict(LIMITS)
        self.streams: dict[str, dict[tuple[int, str, str], Entry]] = {}
        self.newest: dict[str, int] = {}
        self.tokens = float(self.limits["burst_bytes"])
        self.filled = clock()

    def push(self, headers: dict[str, str], body: bytes, now: int | None = None) -> tuple[int, str]:
        """Take a push, and return the status and what is said."""
        try:
            self._push(headers, body, time.time_ns() if now is None else now)
        except RefusedError as refused:
            return refused.status, refused.said
        return 204, ""

    def _push(self, headers: dict[str, str], body: bytes, now: int) -> None:
        tenant = headers.get("x-scope-orgid", "")
        if self.limits["auth"] and not tenant:
            raise RefusedError(401, "no org id")
        if self.limits["blocked"]:
            raise RefusedError(260, f"ingestion blocked for user {tenant or 'fake'} until 'x' with status code '260'")
        streams = self._read(headers, body)
        if not streams:
            raise RefusedError(422, "error at least one valid stream is required for ingestion")
        errors: list[str] = []
        good: list[tuple[str, list[Entry]]] = []
        for labels, entries in streams:
            name = self._labels(labels)
            error = self._bad_stream(name, labels)
            if error:
                errors += [error] if entries else []
                continue
            kept = []
            for entry in entries:
                error = self._bad_entry(name, entry, now)
                if error:
                    errors.append(error)
                else:
                    kept.append(entry)
            if kept:
                good.append((name, kept))
        size = sum(_size(entry) for _, entries in good for entry in entries)
        self._meter(size, sum(len(entries) for _, entries in good))
        refused = self._store(good)
        if refused:
            raise refused
        if errors:
            raise RefusedError(400, "; ".join(dict.fromkeys(errors)))

    def _read(self, headers: dict[str, str], body: bytes) -> list[tuple[dict[str, str], list[Entry]]]:
        encoding = headers.get("content-encoding", "")
        if encoding not in ("", "gzip", "snappy"):
            raise RefusedError(400, f'Content-Encoding "{encoding}" not supported')
        if encoding == "gzip":
            body = gzip.decompress(body)
        most = self.limits["max_body"]
        if len(body) > most:
            raise RefusedError(413, f"request body too large: message size too large than max ({most + 1} vs {most})")
        if headers.get("content-type", "").partition(";")[0] == "application/json":
            return self._json(body)
        try:
            message = bytes(cramjam.snappy.decompress_raw(body))
        except cramjam.DecompressionError:
            raise RefusedError(400, "snappy: corrupt input") from None
        found = []
        for text, entries in decode_push(message):
            found.append((_parse_labels(text), entries))
        return found

    def _json(self, body: bytes) -> list[tuple[dict[str, str], list[Entry]]]:
        where = "loghttp.PushRequest.Streams: []loghttp.LogProtoStream: "
        if not body:
            raise RefusedError(400, "EOF")
        try:
            push = json.loads(body, parse_constant=_refuse_constant)
        except ValueError as error:
            raise RefusedError(
                400, f"{where}decode slice: expect [ or n, but found \0, error found in {error}"
            ) from None
        found = []
        for stream in push["streams"]:
            labels = {
                name: value if isinstance(value, str) else json.dumps(value) for name, value in stream["stream"].items()
            }
            _parse_labels(_text(labels))
            entries: list[Entry] = []
            for at, line, *rest in stream["values"]:
                metadata = rest[0] if rest else {}
                if not isinstance(at, str) or _has_surrogate(line):
                    raise RefusedError(
                        400,
                        f"{where}unmarshalerDecoder: Value looks like Number/Boolean/None, "
                        "but can't find its end: ',' or '}' symbol, error found in",
                    )
                if not all(isinstance(value, str) and not _has_surrogate(value) for value in metadata.values()):
                    raise RefusedError(
                        400,
                        f"{where}unmarshalerDecoder: Value is string, but can't find closing '\"' symbol, "
                        "error found in",
                    )
                entries.append((int(at), line, metadata))
            found.append((labels, entries))
        return found

    @staticmethod
    def _labels(labels: dict[str, str]) -> str:
        """Return the text of labels with the name of the service that Loki works out."""
        named = next((labels[name] for name in SERVICE_NAMES if labels.get(name)), "unknown_service")
        return _text({"service_name": named, **labels})

    def _bad_stream(self, name: str, labels: dict[str, str]) -> str:
        limits = self.limits
        if len(labels) > limits["max_label_names"]:
            return f"entry for stream '{name}' has {len(labels)} label names; limit {limits['max_label_names']}"
        for label, value in labels.items():
            if len(label) > limits["max_label_name"]:
                return f"stream '{name}' has label name too long: '{label}'"
            if len(value.encode()) > limits["max_label_value"]:
                return f"stream '{name}' has label value too long: '{value}'"
        return ""

    def _bad_entry(self, name: str, entry: Entry, now: int) -> str:
        at, line, metadata = entry
        limits = self.limits
        oldest = now - limits["reject_old_seconds"] * NS
        if at < oldest:
            return (
                f"entry for stream '{name}' has timestamp too old: {_rfc3339(at)}, "
                f"oldest acceptable timestamp is: {_rfc3339(oldest)}"
            )
        if at > now + limits["grace_seconds"] * NS:
            return f"entry for stream '{name}' has timestamp too new: {_rfc3339(at)}"
        size = len(line.encode())
        if size > limits["max_line_size"]:
            return (
                f"max entry size '{limits['max_line_size']}' bytes exceeded for stream '{name}' "
                f"while adding an entry with length '{size}' bytes"
            )
        if metadata and not limits["metadata"]:
            return (
                f"stream '{name}' includes structured metadata, but this feature is disallowed. Please see "
                "`limits_config.allow_structured_metadata` or contact your Loki administrator to enable it."
            )
        if len(metadata) > limits["max_metadata_entries"]:
            most = limits["max_metadata_entries"]
            return f"stream '{name}' has too many structured metadata labels: '{len(metadata)}', limit: '{most}'."
        extra = _size(entry) - size
        if extra > limits["max_metadata_bytes"]:
            most = limits["max_metadata_bytes"]
            return f"stream '{name}' has structured metadata too large: '{extra}' bytes, limit: '{most}' bytes."
        return ""

    def _meter(self, size: int, lines: int) -> None:
        """Take *size* from a bucket of tokens, as the distributor does."""
        rate, burst = self.limits["rate_bytes"], self.limits["burst_bytes"]
        now = self.clock()
        self.tokens = min(burst, self.tokens + (now - self.filled) * rate)
        self.filled = now
        if size > self.tokens:
            raise RefusedError(
                429,
                f"ingestion rate limit exceeded for user fake (limit: {rate} bytes/sec) while attempting to ingest "
                f"'{lines}' lines totaling '{size}' bytes, reduce log volume or contact your Loki administrator to see "
                "if the limit can be increased",
            )
        self.tokens -= size

    def _store(self, streams: list[tuple[str, list[Entry]]]) -> RefusedError | None:
        """Store what may be; of what may not, say the last that was met."""
        refused = None
        for name, entries in streams:
            if name not in self.streams:
                if len(self.streams) >= self.limits["max_streams"]:
                    refused = RefusedError(
                        429,
                        f"maximum active stream limit exceeded when trying to create stream {name}, reduce the number "
                        "of active streams (reduce labels or reduce label values), or contact your Loki administrator "
                        "to see if the limit can be increased, user: 'fake'",
                    )
                    continue
                self.streams[name] = {}
            kept, newest = self.streams[name], self.newest.get(name, 0)
            ignored = []
            for at, line, metadata in entries:
                if at < newest - self.limits["behind_seconds"] * NS:
                    ignored.append((at, newest - self.limits["behind_seconds"] * NS))
                    continue
                newest = max(newest, at)
                kept.setdefault((at, line, json.dumps(metadata, sort_keys=True)), (at, line, metadata))
            self.newest[name] = newest
            if ignored:
                said = "".join(
                    f"entry with timestamp {_go_time(at)} ignored, reason: 'entry too far behind, entry timestamp is: "
                    f"{_rfc3339(at)}, oldest acceptable timestamp is: {_rfc3339(oldest)}',\n"
                    for at, oldest in ignored[: self.limits["max_returned_errors"]]
                )
                refused = RefusedError(
                    400,
                    f"{said}user 'fake', total ignored: {len(ignored)} out of {len(entries)} for stream: {name}",
                )
        return refused


class _Server(receiver._Server):
    """Loki's ports."""

    def forget(self) -> None:
        super().forget()
        self.loki = Loki()

    async def _do(self, target: str, what: Any) -> bytes:
        if target == "/limits":
            self.loki.limits.update(what)
            self.loki.tokens = min(self.loki.tokens, self.loki.limits["burst_bytes"])
            return b""
        if target == "/streams":
            return json.dumps({name: list(kept.values()) for name, kept in self.loki.streams.items()}).encode()
        return await super()._do(target, what)

    async def _answer(self, request: receiver._Request, writer: asyncio.StreamWriter, connection: int) -> bool:
        behaviour = self._take()
        does = behaviour["do"]
        status, said = behaviour.get("status", 204), behaviour.get("body", "")
        if does in ("accept", "close", "late") or behaviour.get("keep"):
            status, said = self.loki.push(request.headers, request.raw)
        self.requests.append(
            {
                "at": time.monotonic() - self.began,
                "method": request.method,
                "target": request.target,
                "headers": request.headers,
                "status": status if does not in ("silent", "reset", "garbage") else None,
                "said": said[:300],
                "bytes": request.size,
                "connection": connection,
            }
        )
        return await self._say({**behaviour, "body": said}, status, writer)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _size(entry: Entry) -> int:
    return len(entry[1].encode()) + sum(len(name) + len(value.encode()) for name, value in entry[2].items())


_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*("(?:[^"\\\n]|\\.)*")\s*')


def _parse_labels(text: str) -> dict[str, str]:
    """Read ``{a="b", c="d"}`` as Loki does."""
    labels: dict[str, str] = {}
    at = 1
    while text[at] != "}":
        match = _LABEL.match(text, at)
        if match is None:
            bad = re.compile(r"[^a-zA-Z0-9_]").search(text, at)
            assert bad is not None
            raise RefusedError(
                400,
                f"couldn't parse labels: 1:{bad.start() + 1}: parse error: "
                f"unexpected character inside braces: '{bad[0]}'",
            )
        labels[match[1]] = json.loads(match[2])
        at = match.end() + (text[match.end()] == ",")
    return labels


def _text(labels: dict[str, str]) -> str:
    return (
        "{"
        + ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(labels.items()))
        + "}"
    )


def _rfc3339(ns: int) -> str:
    return datetime.fromtimestamp(ns // NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _go_time(ns: int) -> str:
    return datetime.fromtimestamp(ns // NS, UTC).strftime("%Y-%m-%d %H:%M:%S") + f".{ns % NS:09d} +0000 UTC"


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(receiver.main(_Server))
