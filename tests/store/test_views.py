from pathlib import Path
from typing import Any

import pytest

from fapilog import configure_logging, get_logger, log, pipeline_context
from fapilog.store import LogStore
from fapilog.store.compact import compact
from fapilog.store.views import VIEWS


def rows(query: str) -> list[dict[str, Any]]:
    with LogStore("logs") as store:
        answer = store.rows(query)
        assert store.sql(query).fetchall() == list(store.rows(query))
        return [dict(zip(answer.columns, row, strict=True)) for row in answer]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_views_have_the_columns_that_are_asked_for() -> None:
    assert [column.name for column in VIEWS["job_logs"]] == [
        "id", "project_name", "module_name", "function_name", "run_id", "timestamp", "level", "action", "message",
        "success", "status_code", "duration_ms", "request_method", "context",
    ]  # fmt: skip
    assert {
        "pipeline_id", "execution_id", "log_level", "logger_name", "message", "module", "function_name", "line_number",
        "thread_id", "process_id", "correlation_id", "extra_data", "stack_trace",
    } <= {column.name for column in VIEWS["pipeline_logs"]}  # fmt: skip
    assert [column.name for view in VIEWS.values() for column in view if not column.description] == []


def test_actions_are_rows_of_job_logs() -> None:
    with configure_logging(sinks=["duckdb"], service="shop"):
        users = get_logger("shop.users")
        users.action("signup", message="Ann signed up", duration_ms=12.5, context={"plan": "pro"}, function_name="join")
        users.action("login", success=False, request_method="POST")
        users.log_action("nightly", level="warning", run_id="run-7")
    compact("logs")
    signup, login, nightly = rows("select * from job_logs order by timestamp, id")
    assert signup == signup | {
        "project_name": "shop",
        "module_name": "shop.users",
        "function_name": "join",
        "level": "INFO",
        "action": "signup",
        "message": "Ann signed up",
        "success": True,
        "duration_ms": 12.5,
        "context": '{"plan":"pro"}',
    }
    assert (login["level"], login["message"], login["success"], login["request_method"]) == (
        "ERROR",
        "login",
        False,
        "POST",
    )
    assert login["run_id"] == signup["run_id"] == signup["id"].split("-")[0]
    assert (nightly["level"], nightly["run_id"], nightly["success"]) == ("WARNING", "run-7", True)


def test_a_pipeline_and_its_execution_are_columns_of_pipeline_logs() -> None:
    with configure_logging(sinks=["duckdb"], enrich=["callsite"]):
        with pipeline_context("import", "exec-1", tenant="a") as execution:
            assert execution == "exec-1"
            log.info("began", rows=3, thread_id=7)
        with pipeline_context("import") as execution:
            try:
                int("no")
            except ValueError:
                log.exception("failed", correlation_id="c-1")
        log.info("outside")
    began, failed, outside = rows("select * from pipeline_logs order by timestamp, id")
    assert began == began | {
        "pipeline_id": "import", "execution_id": "exec-1", "log_level": "INFO", "logger_name": "root",
        "message": "began", "thread_id": 7, "stack_trace": None,
    }  # fmt: skip
    assert '"rows":3' in began["extra_data"]
    assert '"tenant":"a"' in began["extra_data"]
    assert began["module"].endswith("test_views.py")
    assert began["function_name"] == "test_a_pipeline_and_its_execution_are_columns_of_pipeline_logs"
    assert began["line_number"] > 0
    assert (failed["execution_id"], failed["correlation_id"]) == (execution, "c-1")
    assert execution.startswith("exec_")
    assert len(execution) == 17
    assert "ValueError: invalid literal" in failed["stack_trace"]
    assert (outside["pipeline_id"], outside["execution_id"]) == (None, None)


def test_a_value_that_does_not_fit_its_column_is_none() -> None:
    with configure_logging(sinks=["duckdb"]):
        log.info("odd", success="perhaps", thread_id="main", line_number="x")
    assert rows("select success from job_logs") == [{"success": None}]
    assert rows("select thread_id, line_number from pipeline_logs") == [{"thread_id": None, "line_number": None}]
