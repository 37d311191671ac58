"""Make the parts that settings ask for: sinks with their options, what redacts, what is told of a request."""

import dataclasses
import difflib
import errno
import inspect
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from pydantic import ValidationError

from fapilog.access import Access, levels_of
from fapilog.bodies import BodyOptions
from fapilog.diagnostics import report
from fapilog.errors import ConfigurationError, SinkStartError
from fapilog.exclusion import exclusion
from fapilog.files.deadletters import DeadLetters
from fapilog.forwarded import TrustedProxies
from fapilog.masks import HeaderChoice, Masks
from fapilog.pipeline.options import DeliveryOptions
from fapilog.pipeline.spool import Spool
from fapilog.plugins import SinkSpec, build_sink, explain, function, parse_sink, unmasked
from fapilog.processors.enrich import choose
from fapilog.processors.redact import Redact
from fapilog.settings import LoggingSettings
from fapilog.types import LEVELS, Sink

_DELIVERY_OPTIONS: Final = frozenset(field.name for field in dataclasses.fields(DeliveryOptions))


def spooling(name: str, sink: Sink, options: DeliveryOptions, settings: LoggingSettings, instance: str) -> Any:
    """Return what a delivery needs to spool: how to make the spool when the worker begins, and where the dead go."""
    wanted = inspect.iscoroutinefunction(sink.write) if options.spool is None else options.spool
    if not wanted:
        return {}
    directory = settings.spool_path.expanduser().absolute()

    def make() -> Spool:
        return Spool(
            directory,
            sink=name,
            destination=str(getattr(sink, "destination", None) or type(sink).__qualname__),
            instance=instance,
            max_bytes=options.spool_max_bytes,
            max_age_seconds=options.spool_max_age_seconds,
        )

    dead_letters = DeadLetters(directory / "dead" / f"{quote(name, safe='')}.jsonl")
    return {"make_spool": make, "dead_letters": dead_letters}


def access_of(
    settings: LoggingSettings,
    redact: Redact,
    *,
    user: Callable[[Any], Any] | None,
    drain: Callable[[], Awaitable[None]] | None,
) -> Access:
    """Decide what is told of a request from the settings."""
    masks = Masks(redact.matches, settings.redact_replacement.replace("{rule}", "name"))
    bodies = None
    if settings.access_bodies != "none":
        bodies = BodyOptions(
            settings.access_bodies, masks, max_bytes=settings.access_body_max_bytes, types=settings.access_body_types
        )
    return Access(
        masks=masks,
        leaves=redact.leaves,
        is_clean=redact.scanner.is_clean,
        log=settings.access_log,
        levels=levels_of({status: LEVELS[level] for status, level in settings.access_levels.items()}),
        excluded=exclusion(settings.access_exclude),
        only_errors=settings.access_only_errors,
        slow_ms=settings.access_slow_ms,
        client_ip=TrustedProxies(settings.trusted_proxies, settings.proxy_headers)
        if settings.trusted_proxies
        else None,
        user=user,
        request_headers=HeaderChoice(settings.access_headers, masks) if settings.access_headers else None,
        response_headers=HeaderChoice(settings.access_response_headers, masks)
        if settings.access_response_headers
        else None,
        bodies=bodies,
        lends_user="user" in choose(settings.enrich),
        added=frozenset(name.encode() for name in settings.add_headers),
        drain=drain,
    )


def redact_of(settings: LoggingSettings) -> Redact:
    """Build what redacts.

    Raises:
        ConfigurationError: A setting of it cannot be used.
    """
    return Redact(
        settings.redact_fields,
        settings.redact_replacement,
        patterns=settings.redact_patterns,
        presets=settings.redact_presets,
        allow=settings.redact_allow,
        keep=settings.redact_keep,
        off=settings.redact_off,
        mode=settings.redact_mode,
        modes=settings.redact_modes,
        key=settings.redact_key.get_secret_value() if settings.redact_key else None,
        tokenizer=function(settings.redact_tokenizer, "redact_tokenizer") if settings.redact_tokenizer else None,
        functions=[function(each, "redact_functions") for each in settings.redact_functions],
    )


def make_sink(spec: SinkSpec, settings: LoggingSettings) -> tuple[Sink, DeliveryOptions]:
    """Build a sink, and the pipeline's options for it, from what the user wrote and what the settings hold."""
    options: dict[str, Any] = {}
    for name in (in_a_variable(spec.name), spec.name):
        options |= unmasked(settings.sink_options.get(name, {}))
    options |= unmasked(spec.options)
    if spec.type == "stdout":
        options.setdefault("format", settings.json_console)
    if spec.type == "loki":
        options.setdefault("slot_path", settings.spool_path.expanduser().absolute() / "slots")
    if spec.type == "file" and spec.sink is None:
        options.setdefault("service", settings.service)
    ours = {name: options.pop(name) for name in list(options) if name in _DELIVERY_OPTIONS}
    try:
        delivery = DeliveryOptions(**ours)
    except ValidationError as error:
        raise ConfigurationError(f"sink {spec.name!r}: {explain(error, sorted(_DELIVERY_OPTIONS))}") from None
    return build_sink(spec, options, _DELIVERY_OPTIONS), delivery


def check_sink(spec: SinkSpec, settings: LoggingSettings) -> None:
    """See whether a sink can be made and started, and let it go again.

    Raises:
        ConfigurationError: If it cannot.
    """
    sink, _ = make_sink(spec, settings)
    can_start(spec, sink, named=True)
    let_go(sink)


def renewed(spec: SinkSpec) -> SinkSpec:
    """Return a sink as it was before it was used, if it is one that can be copied."""
    sink: Any = spec.sink
    if dataclasses.is_dataclass(sink) and not isinstance(sink, type):
        sink = dataclasses.replace(sink)
    return dataclasses.replace(spec, sink=sink)


def let_go(sink: Sink) -> None:
    """Close a sink that never wrote. One with a coroutine for it has connected to nothing yet."""
    if not inspect.iscoroutinefunction(sink.close):
        sink.close()


def can_start(spec: SinkSpec, sink: Sink, *, named: bool) -> bool:
    """Open a sink. One that the user named must; a default one that cannot is left out, and said.

    Raises:
        SinkStartError: If a named sink cannot.
    """
    opening = getattr(sink, "open", None)
    if opening is None:
        return True
    try:
        opening()
    except (OSError, ConfigurationError) as error:
        why = f"sink {spec.name!r} cannot start: {_what_failed(error)}"
        if named:
            raise SinkStartError(why) from error
        report(f"{why}; the other sinks go on. Name the sinks you want in FAPILOG_SINKS to silence this")
        return False
    return True


def _what_failed(error: Exception) -> str:
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    name = errno.errorcode.get(error.errno, "?")
    user = f" as uid {os.getuid()}" if hasattr(os, "getuid") else ""
    return (
        f"{error.strerror} (errno {error.errno} {name}) at {str(error.filename)!r}{user}; "
        "make it writable, or choose another path"
    )


def sorted_by_type(app: Any, settings: Any) -> tuple[Any, LoggingSettings | None]:
    """Tell an application from settings, whichever came first."""
    if isinstance(app, LoggingSettings):
        if settings is not None:
            raise ConfigurationError("two settings were given; give one, and an application before it")
        app, settings = None, app
    if settings is not None and not isinstance(settings, LoggingSettings):
        raise ConfigurationError(f"settings must be a LoggingSettings, got {type(settings).__qualname__}")
    if app is not None and not callable(app):
        raise ConfigurationError(
            f"the first argument must be an ASGI application or a LoggingSettings, got {type(app).__qualname__}"
        )
    return app, settings


def resolve(settings: LoggingSettings | None, sinks: Any, overrides: Mapping[str, Any]) -> LoggingSettings:
    """Combine settings, sinks and keywords; keywords win."""
    given = dict(overrides)
    if sinks is not None:
        given["sinks"] = sinks
    if settings is not None:
        kept = {name: getattr(settings, name) for name in settings.model_fields_set if name != "sink_options"}
        for name, options in settings.sink_options.items():  # as keywords, or the environment would win over them
            kept[name] = {**options, **given.pop(name, {})}
        given = {**kept, **given}
    try:
        return LoggingSettings(**given)
    except ValidationError as error:
        said = []
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            where = ".".join(str(part) for part in problem["loc"])
            what = problem["msg"].removeprefix("Value error, ")
            said.append(f"{where}: {what}" if where else what)
        raise ConfigurationError("; ".join(said)) from None


def parse_sinks(settings: LoggingSettings) -> list[SinkSpec]:
    """Take the sinks apart, give each a name of its own, and say which options belong to none of them."""
    specs = named_apart([parse_sink(each) for each in settings.sinks])
    names = [spec.name for spec in specs]
    known = {*names, *map(in_a_variable, names)}
    for name in settings.sink_options:
        if name not in known:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            report(f"options are set for a sink {name!r}, which is not one of {', '.join(names) or 'none'}{hint}")
    return specs


def in_a_variable(name: str) -> str:
    """Return what stands for the name of a sink in the names of variables: ``file_2`` for ``file-2``."""
    return re.sub(r"[^a-z0-9]", "_", name.lower())


def named_apart(specs: Iterable[SinkSpec], *, taken: Iterable[str] = ()) -> list[SinkSpec]:
    """Give each a name of its own, which is none of *taken*: a second ``file`` is ``file-2``."""
    names, apart = set(taken), []
    for spec in specs:
        name, number = spec.name, 2
        while name in names:
            name, number = f"{spec.name}-{number}", number + 1
        names.add(name)
        apart.append(dataclasses.replace(spec, name=name))
    return apart
