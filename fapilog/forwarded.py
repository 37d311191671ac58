"""The address of the client, behind proxies that are trusted to tell it.

A header is believed only as far as trusted hands wrote it: the peer must be a trusted proxy, and of the addresses in
the header, read from its end, the first that is no trusted proxy is the client. What stands before it is the client's
own claim.

https://www.rfc-editor.org/rfc/rfc7239
"""

import functools
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

DEFAULT_HEADERS: Final = ("x-forwarded-for", "forwarded")
MAX_HOPS: Final = 64
"""How many addresses are looked at, from the end."""

MAX_HOP_LENGTH: Final = 128
_MAX_HEADER_BYTES: Final = MAX_HOPS * MAX_HOP_LENGTH
_FOR: Final = re.compile(r"(?:^|;)\s*for\s*=\s*(\"[^\"]*\"|[^;]*)", re.IGNORECASE)
_WITH_PORT: Final = re.compile(r"\[(?P<six>[^\]]+)\](?::\d+)?|(?P<four>[0-9.]+):\d+")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def peer_of(scope: Mapping[str, Any]) -> str | None:
    """Return the other end of the connection, as the server knows it."""
    client = scope.get("client")
    return (client[0] or None) if client and isinstance(client, list | tuple) else None


class TrustedProxies:
    """Find the client's address behind these proxies."""

    def __init__(self, proxies: Iterable[str], headers: Iterable[str] = DEFAULT_HEADERS) -> None:
        """Trust *proxies*.

        Args:
            proxies: Addresses and networks (``10.0.0.0/8``); ``unix`` for a peer without an address, ``*`` for any.
            headers: Where they tell the client's address. The first of them that a request has is read, so name only
                what every one of the proxies sets or removes.

        Raises:
            ValueError: One is neither.
        """
        names = [name.strip().lower() for name in proxies]
        self._everyone = "*" in names
        self._unix = self._everyone or "unix" in names
        self._networks = [parse_network(name) for name in names if name not in ("*", "unix")]
        self._headers = [name.lower().encode("latin-1") for name in headers]
        self._known = functools.lru_cache(maxsize=1_024)(self._look_up)

    def __call__(self, scope: Mapping[str, Any]) -> str | None:
        """Return the address of the client of this request."""
        peer = peer_of(scope)
        if peer is None:
            if not self._unix:
                return None
            reached = None
        else:
            reached, trusted = self._known(str(peer)[:MAX_HOP_LENGTH])
            if not trusted:
                return str(peer)
        for hop in self._hops(scope):
            address, trusted = self._known(hop)
            if address is None:  # "unknown", an obfuscated name, or nonsense: nobody can tell what is before it
                break
            reached = address
            if not trusted:
                break
        return reached

    def _hops(self, scope: Mapping[str, Any]) -> list[str]:
        """Return what the header says, nearest hop first."""
        for name in self._headers:
            values = [value for key, value in scope.get("headers") or () if key == name and type(value) is bytes]
            if values:
                said = b",".join(values)[-_MAX_HEADER_BYTES:].decode("latin-1")
                hops = [hop.strip()[:MAX_HOP_LENGTH] for hop in reversed(said.rsplit(",", MAX_HOPS)[-MAX_HOPS:])]
                return [_node(hop) for hop in hops] if name == b"forwarded" else hops
        return []

    def _look_up(self, said: str) -> tuple[str | None, bool]:
        """Return an address as it is usually written, None if it is none, and whether it is trusted."""
        address = _address(said)
        if address is None:
            return None, False
        trusted = self._everyone or any(
            address.version == network.version and address in network for network in self._networks
        )
        return str(address), trusted


def parse_network(said: str) -> Network:
    """Read an address or a network.

    Raises:
        ValueError: It is neither.
    """
    try:
        return ipaddress.ip_network(said.strip(), strict=False)
    except ValueError:
        raise ValueError(f"{said!r} is neither an address nor a network such as '10.0.0.0/8'") from None


def _node(element: str) -> str:
    """Return who a Forwarded element was forwarded for."""
    match = _FOR.search(element)
    return match[1].strip().strip('"') if match else ""


def _address(said: str) -> Address | None:
    match = _WITH_PORT.fullmatch(said)
    try:
        address = ipaddress.ip_address((match["six"] or match["four"]) if match else said)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
