"""A small HTTP client for load: keep-alive connections, no more of the protocol than the test servers speak."""

import asyncio


async def _serve_one_connection(port: int, paths: list[str], statuses: list[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for path in paths:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            statuses.append(int(head.split(b" ", 2)[1]))
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(length)
    finally:
        writer.close()


async def _serve_share(port: int, paths: list[str], statuses: list[int]) -> None:
    """Take a new connection now and then: the worker that wakes first accepts all that knock at that moment."""
    for start in range(0, len(paths), 25):
        await _serve_one_connection(port, paths[start : start + 25], statuses)


def get_all(port: int, paths: list[str], *, connections: int) -> list[int]:
    """Request every path once, over that many connections at a time; return the status codes."""
    statuses: list[int] = []

    async def run() -> None:
        shares = [paths[start::connections] for start in range(connections)]
        await asyncio.gather(*(_serve_share(port, share, statuses) for share in shares))

    asyncio.run(run())
    return statuses
