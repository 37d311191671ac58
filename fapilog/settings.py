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
from fapilog.encoding import LIMITS
from fapilog.exclusion import DEFAULT_EXCLUDE, exclusion
from fapilog.forwarded import DEFAULT_HEADERS, TrustedProxies
from fapilog.types import LEVEL_ALIASES, LEVELS, nearest_level

PREFIX: Final = "FAPILOG_"
OTHER_VARIABLES: Final = frozenset({"FAPILOG_FAILPOINT", "FAPILOG_TESTING"})
"""Variables that start like ours and are read elsewhere."""


def level_name(value: Any) -> str:
    """Return the name of a level, given by any of its names or by a number.

    Raises:
        ValueError: It is none.
    """
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
    if isinstance(sink, str) and ("://" in sink or "@" in sink):
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


def _pairs(value: Any) -> Any:
    """Read ``404=info, 5xx=critical``, or a JSON object."""
    if not isinstance(value, str):
        return value
    if value.strip().startswith("{"):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"this looks like JSON but is not: {error}") from None
    parts = [re.split(r"\s*[=:]\s*", part, maxsplit=1) for part in _names(value)]
    return {part[0]: part[1] if len(part) > 1 else "" for part in parts}


def _share(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number <= 1:
        raise ValueError(f"got {value!r}; write a number from 0 to 1, such as 0.1 for every tenth")
    return number


def _trace_or_field(value: Any) -> Any:
    name = value.strip() if isinstance(value, str) else value
    if not name:
        raise ValueError(f"got {value!r}; write trace, record, or the name of a field, such as user_id")
    return name.lower() if str(name).lower() in ("trace", "record") else name


def _rules(value: Any) -> Any:
    """Read rules, as a list or apart by commas; a comma inside of a rule needs a JSON list."""
    return [value] if callable(value) else _names(value)


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


def _patterns(value: Any) -> Any:
    """Read a comma list, in which a comma inside brackets separates nothing, a JSON list or a JSON object."""
    if isinstance(value, str):
        said = value.strip()
        try:
            value = (
                json.loads(said) if said.startswith(("{", '["')) else [each.strip() for each in _SPLIT.findall(said)]
            )
        except ValueError as error:
            raise ValueError(f"this looks like JSON but is not: {error}") from None
    if isinstance(value, list | tuple):
        value = {f"pattern-{number}": each for number, each in enumerate(value, 1)}
    return value


def _modes(value: Any) -> Any:
    """Read ``email=hash, card=partial``, or a JSON object."""
    return (
        {name.strip(): mode.strip() for name, mode in read.items()} if isinstance(read := _pairs(value), dict) else read
    )


_SPLIT: Final = re.compile(
    r"(?:[^,\\\[({]|\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]|\{[^}]*\}|\((?:[^()\\]|\\.|\((?:[^()\\]|\\.)*\))*\)|[\[({])+"
)
"""Matches up to a comma that is outside of brackets."""

Level = Annotated[str, BeforeValidator(level_name)]
AddedHeader = Annotated[
    Literal["x-request-id", "traceresponse", "x-response-time-ms", "server-timing"], BeforeValidator(_lower)
]
Share = Annotated[float, BeforeValidator(_share)]
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

    access_levels: Annotated[dict[Annotated[str, BeforeValidator(_status)], Level], BeforeValidator(_pairs)] = Field(
        default={}
    )
    """The level of an access record by the status, such as ``404=info,5xx=critical``. Otherwise 5xx is an error, 4xx a
    warning, all else info."""

    access_exclude: Annotated[Names, AfterValidator(_requests)] = Field(default=[*DEFAULT_EXCLUDE])
    """Requests without an access record while their status is 2xx: a path; all below one that ends in ``/``; a glob; a
    method, alone or before a path, such as ``OPTIONS`` or ``GET /polled``."""

    access_only_errors: bool = False
    """Whether only those access records are kept that are at least a warning."""

    access_slow_ms: PositiveFloat | None = None
    """From how many milliseconds on a request is slow: a warning, with ``slow`` and, as far as that is known, what it
    waited for."""

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

    levels: Annotated[dict[str, Level], BeforeValidator(_pairs)] = Field(default={})
    """The levels of single loggers by name, such as ``uvicorn=warning,shop.*=debug``, or a JSON object. A name stands
    for that logger and all below it, with ``.*`` only for those below; the longest one counts."""

    filter_drop: Annotated[list[Any], BeforeValidator(_rules)] = Field(default=[])
    """Which records are left out: ``field=glob``, ``field~regex``, or ``module:function``, such as
    ``path=/health*,logger=noisy.*``. In Python also functions of the record."""

    filter_keep: Annotated[list[Any], BeforeValidator(_rules)] = Field(default=[])
    """Which records alone are kept, written in the same way; none means all."""

    filter_errors: bool = False
    """Whether these rules may leave out errors, and records with an exception."""

    sampling_rate: Share = 1.0
    """The share of the records that is kept, such as 0.1 for every tenth."""

    sampling_by: Annotated[str, BeforeValidator(_trace_or_field)] = "trace"
    """What is kept or left out together: ``trace``; ``record``, each by itself; or the name of a field, such as
    ``user_id``."""

    sampling_levels: Annotated[dict[Level, Share], BeforeValidator(_pairs)] = Field(default={})
    """Shares of single levels, such as ``debug=0.01,info=0.2``, in place of the sampling rate."""

    sampling_errors: bool = False
    """Whether errors, and records with an exception, are sampled too."""

    sampling_adaptive: bool = False
    """Whether the share falls while the queue is more than half full, to a hundredth when it is full."""

    throttle_max_rate: PositiveFloat | None = None
    """How many records with the same key are kept in the throttle's window; none means any number."""

    throttle_window_seconds: PositiveFloat = 60.0
    """The time in which they are counted."""

    throttle_key_field: Annotated[list[str], BeforeValidator(_names)] = Field(default=["event"])
    """The fields whose values are the key."""

    throttle_burst: Annotated[float, Field(ge=1)] | None = None
    """How many of them may come at once; none means as many as the throttle's rate."""

    throttle_errors: bool = False
    """Whether errors, and records with an exception, are throttled too."""

    throttle_max_keys: PositiveInt = 10_000
    """How many keys are remembered."""

    dedupe_window_seconds: PositiveFloat | None = None
    """For how long records that are alike are counted rather than kept, after the first; none means not at all."""

    dedupe_fields: Annotated[list[str], BeforeValidator(_names)] = Field(default=["event", "level", "logger"])
    """The fields that make records alike."""

    dedupe_errors: bool = False
    """Whether errors, and records with an exception, are counted so too."""

    dedupe_max_cache_size: PositiveInt = 10_000
    """How many records are remembered to compare others with."""

    tail_level: Level | None = None
    """The lowest level of the records below the level that a request holds back, and keeps only if it fails, logs an
    error or is slow; none means that nothing is held back."""

    tail_slow_ms: PositiveFloat | None = None
    """From how many milliseconds on a request is slow for that; none means as ``FAPILOG_ACCESS_SLOW_MS`` says."""

    tail_max_records: PositiveInt = 200
    """How many records one request holds back; then the oldest go."""

    tail_max_bytes: PositiveInt = 64 * 1024
    """How many bytes one request holds back."""

    tail_total_max_bytes: PositiveInt = 16 * 1024 * 1024
    """How many bytes all requests hold back together."""

    validation_mode: Annotated[Literal["strict", "warn", "off"], BeforeValidator(_lower)] = "warn"
    """What becomes of a record that does not fit the schema of its event. warn: it is marked; strict: it is an error
    besides, and raises under pytest; off: nothing is compared."""

    enrich: Names = Field(default=[])
    """Enrichers to turn on, and with ``-`` before their names off: those that are on are service, env, version and
    host, and every one that was registered; those that are not are process, python, platform, git, kubernetes,
    container, thread, task, resources, callsite and user."""

    max_record_bytes: Annotated[int, Field(ge=16 * 1024, le=8 * 1024 * 1024)] = LIMITS.record
    """How long a record may be, as a line. One that would be longer keeps less of each field."""

    max_string_characters: Annotated[int, Field(ge=64)] = LIMITS.string
    """How much of a text, or of bytes, is kept."""

    max_depth: Annotated[int, Field(ge=1, le=64)] = LIMITS.depth
    """How many levels of a nested value are kept."""

    max_keys: Annotated[int, Field(ge=16)] = LIMITS.keys
    """How many keys of an object are kept, and how many fields of a record."""

    max_items: Annotated[int, Field(ge=1)] = LIMITS.items
    """How many items of a list are kept, and up to how many an array or a tensor is shown item by item."""

    exception_locals: bool = False
    """Whether an exception has the local variables of each frame. Those whose names say so are masked; a secret under
    another name is not."""

    redact_fields: Names = Field(default=[])
    """Names of further fields whose values are secret, beside the built-in ones, in any case and at any depth; and
    places, such as ``user.*.email``, ``payload.card.number`` or ``**.iban``."""

    redact_patterns: Annotated[dict[str, str], BeforeValidator(_patterns)] = Field(default={})
    """Regular expressions of what else is secret in texts: a comma list, a JSON list, or a JSON object that gives each
    a name. What its group ``secret`` matches is taken out, or all of it. One that may take exponential time is
    refused; one that takes more than proportional time is run on pieces of up to 4 KiB. None has more than
    10 ms for a text."""

    redact_presets: Annotated[list[Literal["gdpr", "hipaa", "pci"]], BeforeValidator(_lower_names)] = Field(default=[])
    """What else is looked for in texts: gdpr: e-mail, phone, IBAN, card and IP; hipaa: e-mail,
    phone, SSN and IP; pci: card."""

    redact_replacement: str = "REDACTED"
    """What stands in place of a value that is secret by its name. What a text is found to hold becomes
    ``<redacted:rule>``, of the same word. With ``{rule}`` in it, the rule is put there in both."""

    redact_mode: Annotated[Literal["mask", "partial", "hash", "drop", "tokenize"], BeforeValidator(_lower)] = "mask"
    """What is done with what is secret. mask: the replacement; partial: it and the last 4 characters, of 12 or more;
    hash: a keyed hash, the same for equal values; drop: nothing is left; tokenize: what your function returns."""

    redact_modes: Annotated[dict[str, str], BeforeValidator(_modes)] = Field(default={})
    """Another mode for single rules, such as ``email=hash,card=partial``."""

    redact_key: SecretStr | None = None
    """The key of the hashes. Without it values cannot be guessed, with it equal ones can be joined."""

    redact_allow: Names = Field(default=[])
    """If there are any, only fields of these names, or at these places, are kept, and those of fapilog; the values of
    all others are masked."""

    redact_keep: Names = Field(default=[])
    """Names and places that are no secret, though their name says so."""

    redact_off: Annotated[list[str], BeforeValidator(_lower_names)] = Field(default=[])
    """What is not applied: fields (the built-in names), texts (``name=value`` in texts), urls, credentials, and single
    rules such as ``jwt`` or ``ip``."""

    redact_tokenizer: Any = None
    """In Python the function, otherwise its ``module:name``, that is called with a secret text and its rule, and
    returns what to keep, for the mode tokenize."""

    redact_functions: Annotated[list[Any], BeforeValidator(_names)] = Field(default=[])
    """Functions, or ``module:name``, that are called with the path of each text and the text, and return what to keep
    of it. They make every record slower."""

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
