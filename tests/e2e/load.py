"""A small HTTP client for load: keep-alive connections, no more of the protocol than the test servers speak."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple


class Ask(NamedTuple):
    """One request."""

    path: str
    headers: tuple[str, ...] = ()


class Answer(NamedTuple):
    """What came back; a body that breaks off is not whole."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True


async def _serve_one_connection(port: int, asks: Sequence[Ask]) -> list[Answer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    try:
        for path, headers in asks:
            lines = [f"GET {path} HTTP/1.1", "host: localhost", *headers, "", ""]
            writer.write("\r\n".join(lines).encode())
            answers.append(await asyncio.wait_for(_read(reader), 30))
    finally:
        writer.close()
    return answers


async def _read(reader: asyncio.StreamReader) -> Answer:
    first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    status = int(first.split(" ", 2)[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    body = b""
    try:
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
    except (asyncio.IncompleteReadError, ConnectionError):
        return Answer(status, headers, body, whole=False)
    return Answer(status, headers, body)


def ask_all(port: int, shares: Sequence[Sequence[Ask]]) -> list[list[Answer]]:
    """Have one connection for each share, all at once, and send its requests one after the other."""

    async def run() -> list[list[Answer]]:
        return await asyncio.gather(*(_serve_one_connection(port, share) for share in shares))

    return asyncio.run(run())


async def _serve_share(port: int, paths: list[str], statuses: list[int]) -> None:
    """Take a new connection now and then: the worker that wakes first accepts all that knock at that moment."""
    for start in range(0, len(paths), 25):
        asks = [Ask(path) for path in paths[start : start + 25]]
        statuses.extend(answer.status for answer in await _serve_one_connection(port, asks))


def get_all(port: int, paths: list[str], *, connections: int) -> list[int]:
    """Request every path once, over that many connections at a time; return the status codes."""
    statuses: list[int] = []

    async def run() -> None:
        shares = [paths[start::connections] for start in range(connections)]
        await asyncio.gather(*(_serve_share(port, share, statuses) for share in shares))

    asyncio.run(run())
    return statuses
