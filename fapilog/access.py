"""The access record: what is told of one request or websocket, decided once."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import orjson

from fapilog.bodies import BodyOptions
from fapilog.diagnostics import report
from fapilog.encoding import text
from fapilog.exclusion import exclusion
from fapilog.forwarded import peer_of
from fapilog.masks import MAX_HEADER, HeaderChoice, Masks
from fapilog.routes import route_template
from fapilog.types import ERROR, INFO, WARNING

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]
Clock: TypeAlias = Callable[[], float]

ADDED_HEADERS: Final = ("x-request-id", "traceresponse", "x-response-time-ms", "server-timing")
"""What can be added to a response."""

_PLAIN: Final = (
    *("method", "path", "status_code", "duration_ms", "request_bytes", "response_bytes", "scheme", "http_version"),
    *("ttfb_ms", "route", "client_ip", "user_agent"),
)
PLAIN_RECORD: Final = (
    b'%b"path":%b,"status_code":%d,"duration_ms":%.3f,"response_bytes":%d,"ttfb_ms":%.3f,"client_ip":%b,"user_agent":%b'
)
"""The fields of the record of a request like most; it begins with those of its kind."""

_KIND: Final = b'"method":%b,"scheme":%b,"http_version":%b,"route":%b,"request_bytes":0,'

_MAX_SPELLED: Final = 1_000

_WORDS_FOR_A_USER: Final = ("identity", "id", "display_name")
_MAX_USER: Final = 256


def levels_of(changes: Mapping[str, int]) -> dict[int, int]:
    """Return the level of each status: 5xx is an error, 4xx a warning, all else info, but for *changes*.

    A key of those is a status such as ``404`` or a class such as ``4xx``; a status wins over its class.
    """
    levels = {status: ERROR if status >= 500 else WARNING if status >= 400 else INFO for status in range(100, 600)}
    for said in sorted(changes, key=str.isdigit):
        if said.isdigit():
            levels[int(said)] = changes[said]
        else:
            levels |= {int(said[0]) * 100 + status: changes[said] for status in range(100)}
    return levels


class Spelled(dict[Any, bytes]):
    """What the values that most requests share look like in JSON; none of them is secret."""

    def __init__(self, is_clean: Callable[[str], bool]) -> None:
        """Take a text only if *is_clean* says so."""
        super().__init__()
        self._is_clean = is_clean

    def __missing__(self, value: Any) -> bytes:
        said = value[:MAX_HEADER].decode("latin-1") if type(value) is bytes else value
        if type(said) is not str or not self._is_clean(said):
            raise TypeError
        encoded = orjson.dumps(said)
        if len(self) >= _MAX_SPELLED:
            self.clear()
        self[value] = encoded
        return encoded


class Kinds(dict[tuple[Any, ...], bytes]):
    """What the fields look like that all requests of a kind share: method, scheme, version of HTTP, route."""

    def __init__(self, spelled: Spelled) -> None:
        """Take the texts that *spelled* takes."""
        super().__init__()
        self._spelled = spelled

    def __missing__(self, kind: tuple[Any, ...]) -> bytes:
        encoded = _KIND % tuple([self._spelled[value] for value in kind])
        if len(self) >= _MAX_SPELLED:
            self.clear()
        self[kind] = encoded
        return encoded


@dataclass(frozen=True, kw_only=True)
class Access:
    """What is told of a request, decided once."""

    masks: Masks
    leaves: Callable[[str], bool]
    """Tells whether a field of that name stays in a record as it is, unless its text is secret."""

    is_clean: Callable[[str], bool]
    """Tells whether nothing in a text is secret."""

    log: bool = True
    """Whether there is an access record at all."""

    levels: Mapping[int, int] = field(default_factory=lambda: levels_of({}))
    """The level by the status; of a status it does not have: error."""

    excluded: Callable[[Scope], bool] = field(default_factory=exclusion)
    """Which requests leave no record while their status is 2xx."""

    only_errors: bool = False
    """Whether a record below warning is left out."""

    slow_ms: float | None = None
    """From which duration on a request is slow."""

    client_ip: Callable[[Scope], str | None] | None = None
    """Who the client is; None: the other end of the connection."""

    user: Callable[[Scope], Any] | None = None
    request_headers: HeaderChoice | None = None
    response_headers: HeaderChoice | None = None
    bodies: BodyOptions | None = None

    added: frozenset[bytes] = frozenset({b"x-request-id", b"traceresponse"})
    """The names of the headers that are added to responses."""

    lends_user: bool = False
    """Whether every record of a request may ask for its user."""

    drain: Callable[[], Awaitable[None]] | None = None
    """Awaited before the end of each response."""

    def __post_init__(self) -> None:
        """Decide what would otherwise be asked of every request."""
        more = self.user or self.request_headers or self.response_headers
        object.__setattr__(self, "tells_more", bool(more))
        ids_alone = self.added == {b"x-request-id", b"traceresponse"}
        plain = self.bodies is None and self.drain is None and self.slow_ms is None and not self.lends_user
        object.__setattr__(self, "simple", ids_alone and plain)
        object.__setattr__(self, "flat", not more and self.bodies is None)
        # Whatever else is asked for takes the way on which every field is looked at.
        usual = self.log and not self.only_errors and self.slow_ms is None and self.client_ip is None
        object.__setattr__(self, "plain", usual and self.flat and all(map(self.leaves, _PLAIN)))
        object.__setattr__(self, "spelled", Spelled(self.is_clean))
        object.__setattr__(self, "kinds", Kinds(self.spelled))
        object.__setattr__(self, "times", not self.added.isdisjoint({b"x-response-time-ms", b"server-timing"}))

    tells_more: bool = field(init=False)
    """Whether a record has anything that it has not by default."""

    simple: bool = field(init=False)
    """Whether a request needs nothing but its messages counted, and an answer with the ids."""

    flat: bool = field(init=False)
    """Whether every field of a record is a string or a number, unless there is an error."""

    plain: bool = field(init=False)
    """Whether a record may be made of `PLAIN_RECORD`."""

    spelled: Spelled = field(init=False)
    kinds: Kinds = field(init=False)

    times: bool = field(init=False)
    """Whether one of them tells the time."""


def describe(scope: Scope, headers: Mapping[bytes, bytes], fields: dict[str, Any], access: Access) -> None:
    """Add what may be missing: query, route taken, who the client is, and what it calls itself."""
    query = scope.get("query_string")
    if query and type(query) is bytes:
        fields["query"] = access.masks.query(query)
    route = route_template(scope)
    if route is not None:
        fields["route"] = route
    if access.client_ip is None:
        address = peer_of(scope)
        if address is not None:
            fields["client_ip"] = address
    else:
        address = access.client_ip(scope)
        if address is not None:
            fields["client_ip"] = address
    agent = headers.get(b"user-agent")
    if type(agent) is bytes:
        fields["user_agent"] = agent[:MAX_HEADER].decode("latin-1")
    if "user" in scope:
        user_id = user_name(scope["user"])
        if user_id is not None:
            fields["user_id"] = user_id


def tell_more(
    scope: Scope, headers: Mapping[bytes, bytes], answered: Iterable[Header], fields: dict[str, Any], access: Access
) -> None:
    """Add what is told only if it was asked for."""
    if access.user is not None:
        try:
            user_id = access.user(scope)
        except Exception as error:  # noqa: BLE001 - a function of the user's must not cost the record
            report(f"the function that names the user of a request raised {error!r}", key="access user")
            user_id = None
        if user_id is not None:
            fields["user_id"] = text(user_id, _MAX_USER)
    if access.request_headers is not None and headers:
        fields["request_headers"] = access.request_headers(scope.get("headers") or ())
    if access.response_headers is not None:
        fields["response_headers"] = access.response_headers(answered)


def user_name(user: Any) -> str | None:
    """Return the name of the user that an authenticating middleware has left in the scope."""
    with suppress(Exception):  # a class of the user's: whatever its properties raise
        if type(user) is str or type(user) is int:
            return text(user, _MAX_USER)
        if getattr(user, "is_authenticated", False):
            for name in _WORDS_FOR_A_USER:
                with suppress(Exception):
                    value = getattr(user, name)
                    if value is not None and value != "":
                        return text(value, _MAX_USER)
    return None
