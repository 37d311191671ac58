"""Say what fapilog would do here: versions, settings in effect with secrets masked, plugins, and what is wrong."""

import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from fapilog.alerts import webhook_of
from fapilog.assembly import check_sink, parse_sinks, redact_of
from fapilog.errors import FapilogError
from fapilog.plugins import known
from fapilog.processors.chain import logger_levels, sieves_of
from fapilog.processors.enrich import check
from fapilog.settings import PREFIX, LoggingSettings

_PACKAGES: Final = (
    "fapilog",
    "structlog",
    "orjson",
    "pydantic",
    "pydantic-settings",
    "starlette",
    "httpcore",
    "httpx",
    "cramjam",
    "duckdb",
    "click",
    "fastapi",
    "uvicorn",
    "gunicorn",
)


def examine() -> tuple[str, bool]:
    """Return a report as text, and whether logging would start as configured."""
    problems: list[str] = []
    sections = [
        ("versions", list(_versions())),
        ("settings", list(_settings(problems))),
        ("sinks that can be named", sorted(known("sink").items())),
        ("processors that can be named", sorted(known("processor").items())),
    ]
    lines = []
    for title, rows in sections:
        lines.append(f"{title}:")
        width = max([len(name) for name, _ in rows], default=0)
        lines += [f"  {name:<{width}}  {value}" for name, value in rows]
        lines.append("")
    lines += ["problems:", *(f"  {problem}" for problem in problems)] if problems else ["no problems found"]
    return "\n".join(lines) + "\n", not problems


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "platform", platform.platform()
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed"


def _settings(problems: list[str]) -> Iterator[tuple[str, str]]:
    try:
        settings = LoggingSettings()
    except ValidationError as error:
        problems += [
            f"{PREFIX}{'.'.join(str(part) for part in problem['loc']).upper()}: "
            f"{problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        return
    for name in LoggingSettings.model_fields:
        if name != "sink_options":
            origin = "" if name in settings.model_fields_set else "  (default)"
            yield f"{PREFIX}{name.upper()}", f"{_shown(getattr(settings, name))}{origin}"
    for sink, options in settings.sink_options.items():
        for option in options:
            yield f"{PREFIX}{sink.upper()}__{option.upper()}", "set (hidden: an option may be a secret)"
    for part in (redact_of, webhook_of, logger_levels, sieves_of):
        try:
            part(settings)
        except FapilogError as error:
            problems.append(str(error))
    try:
        check(settings.enrich)
    except FapilogError as error:
        problems.append(str(error))
    try:
        for spec in parse_sinks(settings):
            try:
                check_sink(spec, settings)
            except FapilogError as error:
                problems.append(str(error))
    except FapilogError as error:
        problems.append(str(error))
    if os.environ.get(f"{PREFIX}SINKS") == "":
        problems.append(f"{PREFIX}SINKS is empty: records go nowhere")


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return str(value)
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value) or "none"
    return str(value)
