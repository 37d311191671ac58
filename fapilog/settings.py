"""Everything a user can set, as keywords of `configure_logging` or as ``FAPILOG_*`` variables."""

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from dotenv import dotenv_values
from pydantic import (
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

from fapilog.diagnostics import report
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


Level = Annotated[str, BeforeValidator(_level)]


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
    """Whether each request gets one access record. uvicorn's own access lines are silent while it does."""

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
