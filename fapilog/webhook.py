"""Post to one address that the operator has named, and to nowhere else.

Plain sockets do it: no redirect is followed, no proxy is taken from the environment, nothing is logged, and of the
answer only the status line is read. The name is resolved once for each post, and the address that was checked is the
one connected to. The URL may hold a secret and is in no message.
"""

import http.client
import ipaddress
import socket
import ssl
import time
from typing import Final
from urllib.parse import urlsplit

from fapilog.errors import ConfigurationError

_MAX_STATUS_LINE_BYTES: Final = 4096

_RESERVED: Final = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "64:ff9b:1::/48", "fec0::/10")))
"""Networks that some versions of `ipaddress` take for public ones."""

_EMBEDDING: Final = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "::/96")))
"""IPv6 networks whose last 32 bits are an IPv4 address: NAT64, and the compatible addresses of old."""


_NOT_PUBLIC: Final = "stands for an address that is not public; set FAPILOG_ALERT_WEBHOOK_PRIVATE=true if that is meant"


class Webhook:
    """One address to post JSON to."""

    def __init__(
        self, url: str, *, private: bool = False, timeout_seconds: float = 5.0, tls: ssl.SSLContext | None = None
    ) -> None:
        """Take the address apart; nothing is resolved or connected yet.

        Args:
            url: An http or https URL.
            private: Whether an address that is not public, such as 127.0.0.1 or 10.0.0.8, may be posted to.
            timeout_seconds: How long one post may take, all told.
            tls: How to trust the far end; None trusts what the system trusts.

        Raises:
            ConfigurationError: If *url* cannot be posted to. The message does not hold it.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigurationError("is not a URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError("must be a URL that starts with http:// or https://")
        if "@" in parts.netloc:
            raise ConfigurationError("must not hold a user or a password; put a token into its path")
        if not url.isascii() or not url.isprintable() or " " in url:
            raise ConfigurationError("must be percent-encoded: it holds a blank or is not ASCII")
        if not private and _is_address(parts.hostname) and not is_public(parts.hostname):
            raise ConfigurationError(_NOT_PUBLIC)
        self._host = parts.hostname
        self._port = port or (443 if parts.scheme == "https" else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._private = private
        self._timeout_seconds = timeout_seconds
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None

    def post(self, body: bytes) -> int:
        """Post *body*, which is JSON, and return the status of the answer.

        Raises:
            ConfigurationError: If the name stands for no address that may be posted to.
            OSError, http.client.HTTPException: If there was no answer in time. The text may name the address.
        """
        deadline = time.monotonic() + self._timeout_seconds
        with self._connect(deadline) as connected:
            request = http.client.HTTPConnection(self._host, self._port)
            if self._tls is not None:
                request = http.client.HTTPSConnection(self._host, self._port, context=self._tls)
            request.sock = connected  # it only writes the request: by itself it would resolve the name once more
            connected.settimeout(_left(deadline))
            headers = {"Content-Type": "application/json", "User-Agent": "fapilog", "Connection": "close"}
            request.request("POST", self._target, body, headers)
            return _status(connected, deadline)

    def _connect(self, deadline: float) -> socket.socket:
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        allowed = [address for address in addresses if self._private or is_public(address)]
        if not allowed:
            raise ConfigurationError(_NOT_PUBLIC)
        failure: OSError = TimeoutError()
        for address in allowed:
            try:
                plain = socket.create_connection((address, self._port), _left(deadline))
            except OSError as error:
                failure = error
                continue
            if self._tls is None:
                return plain
            try:
                plain.settimeout(_left(deadline))
                return self._tls.wrap_socket(plain, server_hostname=self._host)
            except BaseException:
                plain.close()
                raise
        raise failure


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public internet, also as an IPv6 address that stands for an IPv4 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        meant = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if any(ip in network for network in _EMBEDDING):
            meant = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if meant is not None:
            return is_public(str(meant))
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _RESERVED)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _status(connected: socket.socket, deadline: float) -> int:
    """Read the status of an HTTP answer, however slowly it comes, and nothing else."""
    line = b""
    while b"\n" not in line and len(line) < _MAX_STATUS_LINE_BYTES:
        connected.settimeout(_left(deadline))
        received = connected.recv(_MAX_STATUS_LINE_BYTES)
        if not received:
            break
        line += received
    words = line.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or len(words[1]) != 3 or not words[1].isdigit():
        raise http.client.BadStatusLine("")
    return int(words[1])
