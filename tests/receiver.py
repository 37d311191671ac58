"""An HTTP receiver in a process of its own: it remembers every record, and misbehaves only as it is told.

As a program it serves two ports, one for records and one to control it, and prints both. As a module it has
`Receiver`, which starts that program and talks to it. It needs nothing but the standard library.
"""

import argparse
import asyncio
import contextlib
import gzip
import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

MAX_HEAD_BYTES = 64 * 1024


class Receiver:
    """A receiver that runs, in its own process.

    What it does with a request is a list of behaviours, each for a number of requests (``times``) or for good; when
    the list is empty it accepts. `behave` says them, by name:

    ``accept``; ``close`` (accept, then close the connection without a word); ``status`` (``status``, ``headers``,
    ``body``, ``keep``); ``limit`` (413 above ``bytes`` of records); ``reject`` (400 if a record holds ``marker``);
    ``silent`` (read all, never answer); ``late`` (answer after ``seconds``); ``reset`` (read all, then reset the
    connection); ``drip`` (a byte of the answer each ``seconds``); ``drip_body`` (the same, after the head); ``flood``
    (200 and a body without end); ``garbage`` (no HTTP); ``deaf`` (connect and never read).

    ``keep`` says whether the records are remembered all the same: an answer that is lost does not undo them.
    """

    program: ClassVar[Path] = Path(__file__).resolve()

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(self.program), *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        ports = json.loads(self.process.stdout.readline())
        self.port: int = ports["port"]
        self._control: int = ports["control"]

    def url(self, path: str = "/ingest", *, host: str = "localhost", scheme: str = "http") -> str:
        """Where to send records, by name so that it has to be looked up."""
        return f"{scheme}://{host}:{self.port}{path}"

    def behave(self, *behaviours: "str | dict[str, Any]") -> None:
        """Do this from now on; a dict has the name under ``do``, and perhaps ``times``."""
        self._ask("/behave", [{"do": each} if isinstance(each, str) else each for each in behaviours])

    def refuse(self) -> None:
        """Take no connection, and cut those there are; the port stays ours."""
        self._ask("/refuse", None)

    def listen(self) -> None:
        """Take connections again."""
        self._ask("/listen", None)

    def reset(self) -> None:
        """Forget everything, and accept."""
        self._ask("/reset", None)

    def report(self) -> dict[str, Any]:
        """Return all there is to know.

        ``records``: count of arrivals by instance and number; ``order``: ids as they arrived; ``requests``: one dict
        for each, with ``at`` (seconds), ``method``, ``target``, ``headers``, ``status``, ``records``, ``bytes``,
        ``connection``; ``connections``: how many were made.
        """
        found: dict[str, Any] = json.loads(self._ask("/report", None))
        return found

    def lines(self) -> list[bytes]:
        """Return every record kept, as it was sent, in order of arrival."""
        return self._ask("/lines", None).splitlines(keepends=True)

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _ask(self, path: str, what: Any) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._control, timeout=30)
        try:
            connection.request("POST", path, json.dumps(what))
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise AssertionError(f"the receiver answered {response.status}: {body!r}")
        return body


class _Request:
    """One request, read from a connection."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *rest = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ", 2)
        self.headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)
        }
        self.size = len(body)
        self.raw = body
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.body = body

    def lines(self) -> list[bytes]:
        """Return the records, each ending in a newline."""
        if self.headers.get("content-type") == "application/json":
            return [line.strip(b",[]") + b"\n" for line in self.body.splitlines() if line.strip(b",[]")]
        return self.body.splitlines(keepends=True)


class _Server:
    """What the process remembers and does."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._socket = self._bound(0)
        self.port: int = self._socket.getsockname()[1]
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.records: dict[str, Counter[int]] = {}
        self.order: list[str] = []
        self.kept: list[bytes] = []
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        self.behaviours: deque[dict[str, Any]] = deque()
        self.began = time.monotonic()

    async def listen(self) -> None:
        """Take connections."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, sock=self._socket, ssl=self._tls, limit=MAX_HEAD_BYTES, backlog=1024
            )

    async def refuse(self) -> None:
        """Refuse connections: a socket that is bound and does not listen keeps the port and answers with a reset."""
        if self._server is not None:
            self._server.close()
            self._server = None
            for writer in list(self._connections):
                writer.transport.abort()
            await asyncio.sleep(0)
            self._socket = self._bound(self.port)

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do as one control request says."""
        try:
            request = await _read(reader)
            assert request is not None
            answer = await self._do(request.target, json.loads(request.body or b"null"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(answer) + answer)
            await writer.drain()
        finally:
            writer.close()

    async def _do(self, target: str, what: Any) -> bytes:
        if target == "/behave":
            self.behaviours = deque(what)
        elif target == "/refuse":
            await self.refuse()
        elif target == "/listen":
            await self.listen()
        elif target == "/reset":
            await self.listen()
            for writer in list(self._connections):
                writer.transport.abort()
            self.forget()
        elif target == "/lines":
            return b"".join(self.kept)
        elif target == "/report":
            keys = ("records", "order", "requests", "connections")
            return json.dumps({key: getattr(self, key) for key in keys}).encode()
        else:
            raise ValueError(target)
        return b""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        self.connections += 1
        number = self.connections
        try:
            if self._next_is("deaf"):
                self._take()
                await asyncio.sleep(3600)
            while (request := await _read(reader)) is not None:
                if not await self._answer(request, writer, number):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    def _next_is(self, what: str) -> bool:
        return bool(self.behaviours) and self.behaviours[0]["do"] == what

    def _take(self) -> dict[str, Any]:
        """Return what to do now."""
        if not self.behaviours:
            return {"do": "accept"}
        behaviour = self.behaviours[0]
        if behaviour.get("times") is not None:
            behaviour["times"] -= 1
            if behaviour["times"] <= 0:
                self.behaviours.popleft()
        return behaviour

    async def _answer(self, request: _Request, writer: asyncio.StreamWriter, connection: int) -> bool:
        """Do with a request what is next, and return whether the connection goes on."""
        behaviour = self._take()
        does = behaviour["do"]
        lines = request.lines()
        status = 200
        if does == "status":
            status = behaviour["status"]
        elif does == "limit" and sum(map(len, lines)) > behaviour["bytes"]:
            status = 413
        elif does == "reject" and any(behaviour["marker"].encode() in line for line in lines):
            status = 400
        if behaviour.get("keep", 200 <= status < 300):
            self._keep(lines)
        self.requests.append(
            {
                "at": time.monotonic() - self.began,
                "method": request.method,
                "target": request.target,
                "headers": request.headers,
                "status": status if does not in ("silent", "reset", "garbage") else None,
                "records": len(lines),
                "bytes": request.size,
                "connection": connection,
            }
        )
        return await self._say(behaviour, status, writer)

    async def _say(self, behaviour: dict[str, Any], status: int, writer: asyncio.StreamWriter) -> bool:
        does = behaviour["do"]
        body = behaviour.get("body", "").encode()
        headers = {"Content-Length": str(len(body)), **behaviour.get("headers", {})}
        seconds = behaviour.get("seconds", 0.1)
        if does == "silent":
            await asyncio.sleep(3600)
        elif does == "late":
            await asyncio.sleep(seconds)
        elif does == "reset":
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()
            return False
        elif does == "garbage":
            writer.write(b"220 mail.example.com ESMTP\r\n\r\n")
            await writer.drain()
            return False
        elif does in ("drip_body", "flood"):
            headers["Content-Length"] = str(10**12)
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        if does == "drip":
            for byte in head.encode():
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(seconds)
            return True
        writer.write(head.encode() + body)
        await writer.drain()
        if does == "close":
            return False
        while does in ("drip_body", "flood"):
            writer.write(b"x" if does == "drip_body" else b"x" * 65536)
            await writer.drain()
            await asyncio.sleep(seconds if does == "drip_body" else 0)
        return True

    def _keep(self, lines: list[bytes]) -> None:
        for line in lines:
            found = json.loads(line).get("id", "")
            instance, _, number = found.rpartition("-")
            self.records.setdefault(instance, Counter())[int(number or 0)] += 1
            self.order.append(found)
            self.kept.append(line)

    @staticmethod
    def _bound(port: int) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        return made


async def _read(reader: asyncio.StreamReader) -> _Request | None:
    """Read one request; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    length = next((line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b"0")
    return _Request(head, await reader.readexactly(int(length)))


async def main(make: "Callable[[ssl.SSLContext | None], _Server]") -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--certificate")
    parser.add_argument("--client-ca")
    options = parser.parse_args()
    tls = None
    if options.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.certificate)
        if options.client_ca:
            tls.load_verify_locations(options.client_ca)
            tls.verify_mode = ssl.CERT_REQUIRED
    server = make(tls)
    await server.listen()
    control = await asyncio.start_server(server.control, "127.0.0.1", 0, limit=MAX_HEAD_BYTES)
    print(json.dumps({"port": server.port, "control": control.sockets[0].getsockname()[1]}), flush=True)
    await control.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(_Server))
