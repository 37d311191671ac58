"""Production logging for FastAPI: one call, structured records, and a store that SQL can query.

`configure_logging(app)` gives a service trace ids, JSON lines, redaction, and sinks that never block a request;
`log.info("order placed", order_id=7)` logs, from any handler, thread or task.
"""

from fapilog.alerts import Alert
from fapilog.context import bind_context, bind_request, bound_context, get_trace_id, unbind_context
from fapilog.decorators import log_execution, timed_operation
from fapilog.logger import BoundLogger, get_logger, log
from fapilog.middleware import LoggingMiddleware
from fapilog.runtime import Handle, configure_logging
from fapilog.settings import LoggingSettings

__all__ = [
    "Alert",
    "BoundLogger",
    "Handle",
    "LoggingMiddleware",
    "LoggingSettings",
    "bind_context",
    "bind_request",
    "bound_context",
    "configure_logging",
    "get_logger",
    "get_trace_id",
    "log",
    "log_execution",
    "timed_operation",
    "unbind_context",
]

__version__ = "1.0.0.dev0"
