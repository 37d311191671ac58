"""The options that every network sink has, and its life."""

import base64
import os
import re
import ssl
from dataclasses import field
from pathlib import Path
from typing import Final
from urllib.request import getproxies, proxy_bypass

import httpcore
from pydantic import InstanceOf, PositiveFloat, SecretStr
from pydantic.dataclasses import dataclass

from fapilog.diagnostics import report
from fapilog.errors import ConfigurationError
from fapilog.plugins import OPTIONS
from fapilog.transport.answer import Answer
from fapilog.transport.client import Client, Headers
from fapilog.transport.options import Endpoint, HeaderSecret, HeaderValues, ProxyUrl, Url

_contexts: Final[dict[tuple[object, ...], tuple[int, ssl.SSLContext]]] = {}


@dataclass(config=OPTIONS, kw_only=True)
class NetworkSink:
    """The options that every sink over HTTP has, and its connection."""

    endpoint: Endpoint
    """Where to send: an ``http://`` or ``https://`` URL. A user, a password and a query in it are moved out into the
    options of that name."""

    query: SecretStr | None = None
    """The endpoint's query string, without the question mark; hidden, as it may hold a token."""

    username: SecretStr | None = None
    """The user for basic authentication; hidden, as it may be a token."""

    password: SecretStr | None = None
    """The password for basic authentication."""

    token: HeaderSecret | None = None
    """A token, sent as ``Authorization: Bearer``."""

    headers: HeaderValues = field(default_factory=dict)
    """Further headers of each request; a JSON object in a variable."""

    timeout_seconds: PositiveFloat = 10.0
    """How long one request may take, all told: to look the name up, connect, send, and read the answer."""

    ca_file: Path | None = None
    """A file of certificates to trust, in PEM; None means the system's and certifi's."""

    client_cert: Path | None = None
    """Our certificate and its chain, in PEM, for a server that asks for one."""

    client_key: Path | None = None
    """The key to it, in PEM without a passphrase; None if it is in the same file."""

    insecure_skip_verify: bool = False
    """Whether to accept any certificate from anybody, who can then read and forget every record; said at each start."""

    proxy: ProxyUrl | None = None
    """The URL of an HTTP proxy to go through, perhaps with a user and a password."""

    trust_env: bool = False
    """Whether ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY`` and ``SSL_CERT_FILE`` in the environment
    count."""

    _client: InstanceOf[Client] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        url = Url.parse(self.endpoint)
        if url.username or url.password is not None:
            if self.username is not None or self.password is not None:
                raise ValueError("a user is given both in the endpoint and as an option; give one")
            self.username = None if url.username is None else SecretStr(url.username)
            self.password = SecretStr(url.password or "")
        if url.query:
            if self.query is not None:
                raise ValueError("a query is given both in the endpoint and as an option; give one")
            self.query = SecretStr(url.query)
        self.endpoint = f"{url.origin}{url.path}"
        if self.query is not None and re.search(r"[^\x21-\x7e]|#", self.query.get_secret_value()):
            raise ValueError("the query holds a space, a # or a character beyond ASCII; write them as %20, %23…")
        if self.password is not None and not (self.username and self.username.get_secret_value()):
            raise ValueError("a password is given without a username")
        if self.client_key is not None and self.client_cert is None:
            raise ValueError("client_key is given without client_cert")
        ways = self._authenticates()
        if len(ways) > 1:
            raise ValueError(f"more than one way to authenticate: {', '.join(ways)}; give one")

    @property
    def destination(self) -> str:
        """Where records go, without anything secret: scheme, host, port and path."""
        url = Url.parse(self.endpoint)
        host = f"[{url.host}]" if ":" in url.host else url.host
        return f"{url.scheme}://{host}:{url.port}{url.path}"

    def open(self) -> None:
        """Read the certificates, and say it if none is verified.

        Raises:
            ConfigurationError: If a certificate cannot be read or used.
        """
        if self._client is not None:
            return
        url = Url.parse(self.endpoint)._replace(query=self.query.get_secret_value() if self.query else "")
        tls = self._inherited_or_new_context() if url.scheme == "https" else None
        if self.insecure_skip_verify:
            report(f"insecure_skip_verify is set: whoever answers as {url.origin} gets the records")
        self._client = Client(url, timeout_seconds=self.timeout_seconds, tls=tls, proxy=self._proxy_to(url))

    def start(self) -> None:
        """Make the threads it needs; called just before the worker's starts, as none can be made at exit."""
        self.open()
        assert self._client is not None  # noqa: S101 - open made it
        self._client.start()

    async def close(self) -> None:
        """Close the connection. Safe to call twice."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def send(self, method: str, headers: Headers, content: bytes) -> Answer:
        """Send one request to the endpoint, with the headers and the credentials of the options.

        Raises:
            RetryableError: There was no answer.
        """
        self.open()
        assert self._client is not None  # noqa: S101 - open made it
        own = [(b"User-Agent", b"fapilog"), (b"Accept", b"*/*"), (b"Accept-Encoding", b"identity"), *headers]
        given = {name.encode(): value.get_secret_value().encode() for name, value in self.headers.items()}
        if self.token is not None:
            given[b"Authorization"] = b"Bearer " + self.token.get_secret_value().encode()
        elif self.username is not None:
            pair = f"{self.username.get_secret_value()}:{self.password.get_secret_value() if self.password else ''}"
            given[b"Authorization"] = b"Basic " + base64.b64encode(pair.encode())
        replaced = {name.lower() for name in given}
        return await self._client.send(
            method, [each for each in own if each[0].lower() not in replaced] + list(given.items()), content
        )

    def _authenticates(self) -> list[str]:
        """Name the ways to authenticate that were chosen; there may be one."""
        header = any(name.lower() == "authorization" for name in self.headers)
        chosen = {"username": self.username, "token": self.token, "the header Authorization": header or None}
        return [name for name, value in chosen.items() if value is not None]

    def _inherited_or_new_context(self) -> ssl.SSLContext:
        """Read certificates, but in a forked child use those of the parent: its first log call must not wait long."""
        key = (self.ca_file, self.client_cert, self.client_key, self.insecure_skip_verify, self.trust_env)
        made_by, context = _contexts.get(key, (os.getpid(), None))
        if context is None or made_by == os.getpid():
            context = self._tls_context()
            _contexts[key] = (os.getpid(), context)
        return context

    def _tls_context(self) -> ssl.SSLContext:
        ca_file = self.ca_file or (os.environ.get("SSL_CERT_FILE") if self.trust_env else None)
        try:
            context = ssl.create_default_context(cafile=ca_file) if ca_file else httpcore.default_ssl_context()
        except ssl.SSLError as error:
            raise ConfigurationError(f"{str(ca_file)!r} holds no certificate in PEM: {error.reason}") from None
        except OSError as error:
            raise _unreadable(error, ca_file) from None
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_cert is not None:
            try:  # without a password OpenSSL would ask for one on the terminal
                context.load_cert_chain(self.client_cert, self.client_key, password="")
            except ssl.SSLError as error:
                what = error.reason or "no PEM"
                raise ConfigurationError(f"{str(self.client_cert)!r} and its key cannot be used: {what}") from None
            except OSError as error:
                raise _unreadable(error, self.client_cert, self.client_key) from None
        return context

    def _proxy_to(self, url: Url) -> Url | None:
        if self.proxy is not None:
            return Url.parse(self.proxy.get_secret_value())
        if not self.trust_env:
            return None
        proxies = getproxies()
        found = proxies.get(url.scheme) or proxies.get("all")
        if not found or proxy_bypass(url.authority):
            return None
        try:
            return Url.parse(found if "://" in found else f"http://{found}")
        except ValueError as error:
            raise ConfigurationError(f"the proxy in the environment cannot be used: {error}") from None


def _unreadable(error: OSError, *paths: Path | str | None) -> ConfigurationError:
    """Name the file that OpenSSL could not read, as it does not."""
    named = next((path for path in paths if path is not None and not os.access(path, os.R_OK)), paths[0])
    return ConfigurationError(f"{str(named)!r} cannot be read: {error.strerror}")
