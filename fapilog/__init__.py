"""Production logging for FastAPI: one call, structured records, and a store that SQL can query.

`configure_logging(app)` gives a service trace ids, JSON lines, redaction, and sinks that never block a request;
`log.info("order placed", order_id=7)` logs, from any handler, thread or task.

What is named here is loaded when the first of it is asked for, all of it at once, so that the command, which needs
little of it, starts quickly.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fapilog import redaction
    from fapilog.alerts import Alert
    from fapilog.context import bind_context, bind_request, bound_context, pipeline_context, unbind_context
    from fapilog.decorators import log_execution, timed_operation
    from fapilog.logger import BoundLogger, get_logger, log
    from fapilog.middleware import LoggingMiddleware
    from fapilog.processors.enrich import clear_enrichers, register_enricher
    from fapilog.processors.validate import event_schema
    from fapilog.runtime import Handle, configure_logging, set_level
    from fapilog.serializers import lazy, register_serializer
    from fapilog.settings import LoggingSettings
    from fapilog.trace import get_trace_id

__all__ = [
    "Alert",
    "BoundLogger",
    "Handle",
    "LoggingMiddleware",
    "LoggingSettings",
    "bind_context",
    "bind_request",
    "bound_context",
    "clear_enrichers",
    "configure_logging",
    "event_schema",
    "get_logger",
    "get_trace_id",
    "lazy",
    "log",
    "log_execution",
    "pipeline_context",
    "redaction",
    "register_enricher",
    "register_serializer",
    "set_level",
    "timed_operation",
    "unbind_context",
]

__version__ = "1.0.0.dev0"

_MODULES: Final = {
    "fapilog.alerts": ("Alert",),
    "fapilog.context": ("bind_context", "bind_request", "bound_context", "pipeline_context", "unbind_context"),
    "fapilog.decorators": (
        "log_execution",
        "timed_operation",
    ),
    "fapilog.logger": (
        "BoundLogger",
        "get_logger",
        "log",
    ),
    "fapilog.middleware": ("LoggingMiddleware",),
    "fapilog.processors.enrich": (
        "clear_enrichers",
        "register_enricher",
    ),
    "fapilog.processors.validate": ("event_schema",),
    "fapilog.runtime": (
        "Handle",
        "configure_logging",
        "set_level",
    ),
    "fapilog.serializers": (
        "lazy",
        "register_serializer",
    ),
    "fapilog.settings": ("LoggingSettings",),
    "fapilog.trace": ("get_trace_id",),
}

if not TYPE_CHECKING:  # or a type checker would take any name to be there

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        for module, names in _MODULES.items():
            loaded = importlib.import_module(module)
            globals().update({each: getattr(loaded, each) for each in names})
        globals()["redaction"] = importlib.import_module("fapilog.redaction")
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
