"""Everything a user can set, as keywords of `configure_logging` or as ``FAPILOG_*`` variables."""

import difflib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretBytes,
    SecretStr,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from fapilog.bodies import DEFAULT_MAX_BYTES, DEFAULT_TYPES
from fapilog.diagnostics import report
from fapilog.exclusion import DEFAULT_EXCLUDE, exclusion
from fapilog.forwarded import DEFAULT_HEADERS, TrustedProxies
from fapilog.types import LEVEL_ALIASES, LEVELS, nearest_level

PREFIX: Final = "FAPILOG_"
OTHER_VARIABLES: Final = frozenset({"FAPILOG_FAILPOINT", "FAPILOG_TESTING"})
"""Variables that start like ours and are read elsewhere."""


def _level(value: Any) -> Any:
    name = str(value).strip().lower()
    if name.isdecimal():
        number = nearest_level(int(name))
        name = next(known for known, level in LEVELS.items() if level == number)
    name = LEVEL_ALIASES.get(name, name)
    if name not in LEVELS:
        raise ValueError(f"got {value!r}; known: {', '.join(LEVELS)}, or a number")
    return name


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _names(value: Any) -> Any:
    """Read a comma list or a JSON list; anything else is left to the validation of the type."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith(("[", "{")):
        try:
            parsed = json.loads(text)
        except ValueError as error:
            raise ValueError(f"this looks like JSON but is not: {error}") from None
        return parsed if isinstance(parsed, list) else [parsed]
    return [part.strip() for part in text.split(",") if part.strip()]


def _lower_names(value: Any) -> Any:
    return _names(_lower(value))


def _sinks(value: Any) -> Any:
    sinks = _names(value)
    return [_masked_sink(sink) for sink in sinks] if isinstance(sinks, list | tuple) else [_masked_sink(sinks)]


def _masked_sink(sink: Any) -> Any:
    """Hide what may hold a secret: the URI of a sink, and its options."""
    if isinstance(sink, str) and "://" in sink:
        return SecretStr(sink)
    if isinstance(sink, Mapping):
        return {key: value if key in ("type", "name") else _masked(value) for key, value in sink.items()}
    return sink


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return SecretStr(value)
    if isinstance(value, bytes):
        return SecretBytes(value)
    if isinstance(value, Mapping):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(item) for item in value]
    return value


def _status_levels(value: Any) -> Any:
    """Read ``404=info, 5xx=critical``, or a JSON object."""
    if not isinstance(value, str):
        return value
    if value.strip().startswith("{"):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"this looks like JSON but is not: {error}") from None
    return dict(part.split("=", 1) if "=" in part else (part, "") for part in _names(value))


def _status(value: Any) -> str:
    said = str(value).strip().lower()
    if not re.fullmatch(r"[1-5](\d\d|xx)", said):
        raise ValueError(f"got {value!r}, which is neither a status such as 404 nor a class such as 4xx")
    return said


def _requests(value: list[str]) -> list[str]:
    exclusion(value)
    return value


def _proxies(value: list[str]) -> list[str]:
    TrustedProxies(value)
    return value


Level = Annotated[str, BeforeValidator(_level)]
AddedHeader = Annotated[
    Literal["x-request-id", "traceresponse", "x-response-time-ms", "server-timing"], BeforeValidator(_lower)
]
Names = Annotated[list[str], BeforeValidator(_names)]


class LoggingSettings(BaseSettings):
    """The settings of fapilog.

    Each is a keyword of `configure_logging` in lower case and a variable ``FAPILOG_<NAME>``; keywords win over the
    environment, the environment over a ``.env`` file in the working directory. Values are not case-sensitive. An
    option of a sink is ``FAPILOG_<SINK>__<OPTION>``, or a dict under the sink's name.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
    )

    level: Level = "info"
    """The lowest level that is kept: trace, debug, info, success, warning, error, critical, or a number."""

    sinks: Annotated[list[Any], BeforeValidator(_sinks)] = Field(default=["stdout", "duckdb"])
    """Where records go: a comma list of names, a JSON list, or URIs such as
    ``file:///var/log/app.log?level=warning``; in Python also dicts with ``type``, and sink objects."""

    json_console: Annotated[Literal["auto", "json", "pretty"], BeforeValidator(_lower)] = "auto"
    """How stdout looks: JSON lines, pretty for a person, or auto: pretty on a terminal and JSON otherwise."""

    service: str | None = None
    """The name of the service, on every record."""

    env: str | None = None
    """The environment it runs in, such as production, on every record."""

    version: str | None = None
    """The version of the service, on every record."""

    queue_maxsize: PositiveInt = 100_000
    """How many records may wait in the queue, and in front of each sink."""

    queue_max_bytes: Annotated[int, Field(ge=64 * 1024)] = 16 * 1024 * 1024
    """How many bytes of records may wait in the queue, and in front of each sink."""

    queue_overflow: Annotated[Literal["auto", "drop", "drop_oldest", "block", "sample"], BeforeValidator(_lower)] = (
        "auto"
    )
    """What happens when the queue is full. auto: a thread waits, an event loop never waits and drops the lowest
    levels first; drop; drop_oldest; block; sample: a falling share is kept as it fills."""

    block_timeout_seconds: NonNegativeFloat = 1.0
    """How long a log call may wait for room, where it may wait at all."""

    spool_path: Path = Path("logs/spool")
    """Where records wait on disk for a network sink whose far end is down; a directory per sink and process."""

    shutdown_timeout_seconds: NonNegativeFloat = 5.0
    """How long the end of the process, or of the application's lifespan, may wait for records to be delivered."""

    drain_on_signals: bool = True
    """Whether SIGTERM and SIGHUP, where they would end the process at once, deliver every record before they do."""

    alert_webhook: SecretStr | None = None
    """Where to post an alert when the queue fills up, records are lost or a sink is away: an http or https URL."""

    alert_webhook_private: bool = False
    """Whether the webhook may be at an address that is not public, such as 127.0.0.1 or 10.0.0.8."""

    alert_queue_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """How full the queue, or the inbox of a sink, is when an alert is told."""

    alert_cooldown_seconds: NonNegativeFloat = 300.0
    """How long the same alert about the same sink is not told again."""

    alert_max_per_hour: PositiveInt = 20
    """How many alerts each receiver gets in an hour, all told."""

    alert_interval_seconds: PositiveFloat = 5.0
    """How often the pipeline's figures are looked at for alerts."""

    access_log: bool = True
    """Whether each request gets one access record. The server's own access lines are silent while it does."""

    capture_stdlib: bool = True
    """Whether what is logged through the standard library's `logging` becomes records."""

    stdlib_handlers: Annotated[Literal["auto", "keep", "remove"], BeforeValidator(_lower)] = "auto"
    """What becomes of the handlers the root logger has. auto: those that write to stdout or stderr are taken off while
    there is a stdout sink, or everything would be said twice; keep: all stay; remove: all go, but for pytest's."""

    capture_servers: bool = True
    """Whether the loggers of uvicorn, gunicorn, hypercorn and granian are taken over."""

    capture_structlog: bool = True
    """Whether structlog is configured to log here. Without it, structlog stays as the program configures it."""

    capture_warnings: bool = True
    """Whether Python's warnings become records of the logger `py.warnings`, in place of lines on stderr."""

    capture_uncaught: Annotated[
        list[Literal["main", "threads", "asyncio", "unraisable"]], BeforeValidator(_lower_names)
    ] = Field(default=["main", "threads", "asyncio"])
    """Where an exception that nobody catches becomes a record: in the main thread, in other threads, in event loops,
    and where Python cannot raise it (unraisable). What Python prints of it is printed as before."""

    access_levels: Annotated[dict[Annotated[str, BeforeValidator(_status)], Level], BeforeValidator(_status_levels)] = (
        Field(default={})
    )
    """The level of an access record by the status, such as ``404=info,5xx=critical``. Otherwise 5xx is an error, 4xx a
    warning, all else info."""

    access_exclude: Annotated[Names, AfterValidator(_requests)] = Field(default=[*DEFAULT_EXCLUDE])
    """Requests without an access record while their status is 2xx: a path; all below one that ends in ``/``; a glob; a
    method, alone or before a path, such as ``OPTIONS`` or ``GET /polled``."""

    access_only_errors: bool = False
    """Whether only those access records are kept that are at least a warning."""

    access_slow_ms: PositiveFloat | None = None
    """From how many milliseconds on a request is slow: a warning, with ``slow``."""

    access_headers: Names = Field(default=[])
    """Request headers that the access record has, as ``request_headers``; ``*`` in a name stands for anything.
    Credentials and cookies are masked in any case."""

    access_response_headers: Names = Field(default=[])
    """Response headers that the access record has, as ``response_headers``."""

    access_bodies: Annotated[Literal["none", "request", "response", "both"], BeforeValidator(_lower)] = "none"
    """Which bodies the access record has, as ``request_body`` and ``response_body``. Secrets in them are masked by
    name, as far as they are JSON or a form; uploads of files and streams of events are never kept."""

    access_body_max_bytes: Annotated[int, Field(gt=0, le=64 * 1024)] = DEFAULT_MAX_BYTES
    """How many bytes of a body are kept."""

    access_body_types: Names = Field(default=[*DEFAULT_TYPES])
    """Media types of the bodies that are kept; ``*`` stands for anything."""

    trusted_proxies: Annotated[Names, AfterValidator(_proxies)] = Field(default=[])
    """Addresses and networks, such as ``10.0.0.0/8``, of proxies that may say who the client is; ``unix`` for one at a
    socket without an address, ``*`` for any."""

    proxy_headers: Names = Field(default=[*DEFAULT_HEADERS])
    """Where trusted proxies say it; the first of these that a request has is read. Name only what your proxies set."""

    add_headers: Annotated[list[AddedHeader], BeforeValidator(_names)] = Field(
        default=["x-request-id", "traceresponse"]
    )
    """Headers that every response gets: x-request-id, traceresponse, and x-response-time-ms and server-timing, which
    tell the time up to the head of the response, where they stand."""

    flush: Annotated[Literal["background", "request"], BeforeValidator(_lower)] = "background"
    """When records are delivered: in the background, or before each response ends, for a platform that freezes the
    process between requests."""

    flush_timeout_seconds: PositiveFloat = 2.0
    """How long a response may wait for that."""

    redact_fields: Annotated[list[str], BeforeValidator(_names)] = Field(default=[])
    """Names of further fields whose values are secret, beside the built-in ones, in any case and at any depth."""

    redact_replacement: str = "REDACTED"
    """What stands in place of a secret value."""

    sink_options: dict[str, dict[str, Any]] = Field(default={})
    """Options of sinks by the sink's name, collected from ``FAPILOG_<SINK>__<OPTION>`` and from dicts given under a
    sink's name."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read keywords, then the environment, then the ``.env`` file."""
        files = getattr(dotenv_settings, "env_file", None)
        written: dict[str, str | None] = {}
        for file in (files,) if isinstance(files, str | os.PathLike) else files or ():
            written.update(dotenv_values(file))
        return (
            init_settings,
            _Variables(settings_cls, os.environ, "the environment"),
            _Variables(settings_cls, written, "the .env file"),
        )

    @model_validator(mode="before")
    @classmethod
    def _gather_sink_options(cls, values: Any) -> Any:
        """Take a dict under a name that is no setting as the options of the sink of that name, and mask it."""
        if not isinstance(values, dict):
            return values
        gathered: dict[str, Any] = dict(values.get("sink_options") or {})
        kept = {}
        for name, value in values.items():
            if name in cls.model_fields:
                kept[name] = value
            elif isinstance(value, Mapping):
                gathered[name] = {**gathered.get(name, {}), **value}
            else:
                raise ValueError(not_a_setting(name, name))
        kept["sink_options"] = _masked(gathered)
        return kept


class _Variables(PydanticBaseSettingsSource):
    """The ``FAPILOG_*`` entries of an environment; one that is no setting is said on stderr, with the nearest name."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None], where: str) -> None:
        super().__init__(settings_cls)
        self._variables = variables
        self._where = where

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for variable, value in self._variables.items():
            if not variable.upper().startswith(PREFIX) or variable.upper() in OTHER_VARIABLES or value is None:
                continue
            name, *options = variable[len(PREFIX) :].lower().split("__")
            if options and name and all(options) and name not in self.settings_cls.model_fields:
                if not _put(found.setdefault(name, {}), options, value):
                    report(f"{variable} is an option inside one that has a value of its own (in {self._where})")
            elif not options and name in self.settings_cls.model_fields and name != "sink_options":
                found[name] = value
            else:
                report(f"{not_a_setting(variable, name)} (in {self._where})")
        return found


def _put(options: dict[str, Any], path: list[str], value: str) -> bool:
    """Set a nested option; return False where what would hold it, or the option itself, is something else."""
    *above, last = path
    for part in above:
        options = options.setdefault(part, {})
        if not isinstance(options, dict):
            return False
    return options.setdefault(last, value) is value


def not_a_setting(said: str, name: str) -> str:
    """Say that *said* is not a setting, and which one is nearest."""
    names = [known for known in LoggingSettings.model_fields if known != "sink_options"]
    close = difflib.get_close_matches(name.lower(), names, 1, cutoff=0.5)
    shown = f"{PREFIX}{close[0].upper()}" if close and said.upper().startswith(PREFIX) else close[0] if close else ""
    return f"{said} is not a setting" + (f"; did you mean {shown}?" if shown else f"; known: {', '.join(names)}")
