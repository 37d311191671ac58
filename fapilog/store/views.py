"""The views beside `logs`: the same records under the names that other tables of logs have."""

from collections.abc import Sequence
from typing import Final, NamedTuple


class ViewColumn(NamedTuple):
    """One column of a view: its name, and what it is in terms of `logs`."""

    name: str
    expression: str
    description: str


def _field(name: str) -> str:
    return f"fields->>'{name}'"


def _place(function: str, callsite: str) -> str:
    return f"coalesce({_field(function)}, {_field(callsite)})"


_RUN: Final = f"coalesce({_field('run_id')}, split_part(id, '-', 1))"
_LINE: Final = f"TRY_CAST(coalesce({_field('line_number')}, {_field('code_line')}) AS BIGINT)"

VIEWS: Final[dict[str, Sequence[ViewColumn]]] = {
    "job_logs": (
        ViewColumn("id", "id", "The record's `id`"),
        ViewColumn("project_name", "service", "The service"),
        ViewColumn("module_name", "logger", "The logger"),
        ViewColumn(
            "function_name", _place("function_name", "code_function"), "The field, or `code_function` of `callsite`"
        ),
        ViewColumn("run_id", _RUN, "The field, or what the process drew at its start: the first part of `id`"),
        ViewColumn("timestamp", "timestamp", "When it was logged, in UTC"),
        ViewColumn("level", "upper(level)", "In upper case, such as `ERROR`"),
        ViewColumn("action", _field("action"), "What was done, see `log.action`"),
        ViewColumn("message", "event", "The event"),
        ViewColumn("success", f"TRY_CAST({_field('success')} AS BOOLEAN)", "Whether it succeeded"),
        ViewColumn("status_code", "status_code", "HTTP status of the response"),
        ViewColumn("duration_ms", "duration_ms", "How long it took, in milliseconds"),
        ViewColumn("request_method", f"coalesce({_field('request_method')}, method)", "HTTP method of the request"),
        ViewColumn("context", "coalesce(fields->'context', fields)", "The field `context`, or all of `fields`"),
    ),
    "pipeline_logs": (
        ViewColumn("id", "id", "The record's `id`"),
        ViewColumn("timestamp", "timestamp", "When it was logged, in UTC"),
        ViewColumn("pipeline_id", _field("pipeline_id"), "See `pipeline_context`"),
        ViewColumn("execution_id", _field("execution_id"), "See `pipeline_context`"),
        ViewColumn("log_level", "upper(level)", "In upper case, such as `ERROR`"),
        ViewColumn("logger_name", "logger", "The logger"),
        ViewColumn("message", "event", "The event"),
        ViewColumn(
            "module",
            f"coalesce({_field('module')}, {_field('code_file')}, logger)",
            "The field, the file, or the logger",
        ),
        ViewColumn(
            "function_name", _place("function_name", "code_function"), "The field, or `code_function` of `callsite`"
        ),
        ViewColumn("line_number", _LINE, "The field, or `code_line` of `callsite`"),
        ViewColumn("thread_id", f"TRY_CAST({_field('thread_id')} AS BIGINT)", "The field, if it is a number"),
        ViewColumn("process_id", "pid", "The process"),
        ViewColumn(
            "correlation_id", f"coalesce({_field('correlation_id')}, request_id, trace_id)", "The field, or the request"
        ),
        ViewColumn("extra_data", "fields", "Everything that is in no column of `logs`"),
        ViewColumn("stack_trace", "exception->>'stacktrace'", "The traceback, if it failed"),
    ),
}


def views_named_in(query: str) -> list[str]:
    """Say which of the views *query* may be about."""
    return [name for name in VIEWS if name in query.lower()]


def view_query(name: str) -> str:
    """Select the columns of the view *name* from `logs`."""
    columns = ", ".join(f'{column.expression} AS "{column.name}"' for column in VIEWS[name])
    return f"SELECT {columns} FROM logs"  # noqa: S608 - of constants
