"""The shape of the code: what is public, described, named and loaded."""

import ast
import importlib
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import fapilog
from fapilog import errors
from fapilog.pipeline.options import DeliveryOptions
from fapilog.plugins import BUILT_IN, find, options_of
from fapilog.settings import LoggingSettings

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fapilog"
MODULES = sorted(PACKAGE.rglob("*.py"))

PUBLIC = [
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

NAMELESS = {"utils", "util", "helpers", "common", "base", "core", "manager", "misc"}

LONG: dict[str, str] = {
    "runtime.py": "it alone knows settings, plugins, processors and pipeline at once",
    "middleware.py": "how a request enters and leaves: its ids, its headers, its record",
    "recorder.py": "the hot path is in one piece, so that it can be read as one and stays fast",
    "encoding.py": "what any value becomes, all cases side by side",
    "settings.py": "everything a user can set, each beside its description",
    "testing.py": "all that the tests of others need, in one import",
    "pipeline/delivery.py": "everything that happens to a record before one sink",
    "pipeline/worker.py": "one thread: how it starts, what it does, how it ends",
    "pipeline/spool.py": "one queue on disk: its bounds, its replay, its adoption and its account",
    "files/shared.py": "one file under one lock: what is written, put aside, brought to disk and closed is one state",
    "store/query.py": "the one class that opens a store, and all that it answers",
    "exchange.py": "what is seen of a request and of a websocket, answered and blamed alike",
}
"""Modules of more than 400 lines, and why each is one thing."""


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def sink_classes() -> list[tuple[str, Any]]:
    return [(name, find("sink", name)) for name in sorted(BUILT_IN["sink"])]


def test_the_public_names_are_these() -> None:
    assert sorted(fapilog.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_described(name: str) -> None:
    assert getattr(fapilog, name).__doc__


def test_what_is_loaded_late_is_what_a_type_checker_sees() -> None:
    seen = next(node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(node, ast.If))
    imports = [node for node in seen.body if isinstance(node, ast.ImportFrom)]
    told = {node.module: tuple(alias.name for alias in node.names) for node in imports}
    assert told.pop("fapilog") == ("redaction",)
    assert told == fapilog._MODULES


def test_the_first_public_name_loads_them_all_and_the_package_alone_none() -> None:
    loaded = run("""
        import sys
        import fapilog
        print("fapilog.runtime" in sys.modules, "pydantic" in sys.modules)
        from fapilog import log
        print("fapilog.runtime" in sys.modules)
    """)
    assert loaded.split() == ["False", "False", "True"]


def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(AttributeError, match="module 'fapilog' has no attribute 'logg'"):
        fapilog.logg  # type: ignore[attr-defined]  # noqa: B018


def test_every_setting_is_described() -> None:
    assert [name for name, field in LoggingSettings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(("name", "cls"), [*sink_classes(), ("every sink", DeliveryOptions)])
def test_every_option_of_a_sink_is_described(name: str, cls: Any) -> None:
    options = options_of(cls)
    assert options, name
    assert [option for option, field in options.items() if not field.description] == []


def test_every_sink_module_is_reachable_by_name() -> None:
    modules = {f"fapilog.sinks.{path.stem}" for path in (PACKAGE / "sinks").glob("[!_]*.py")}
    assert {target.partition(":")[0] for target in BUILT_IN["sink"].values()} == modules


def test_every_exception_is_in_the_tree_of_its_module() -> None:
    found = [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)]
    assert [name for name in found if name not in (errors.__doc__ or "")] == []
    assert all(issubclass(getattr(errors, name), errors.FapilogError) for name in found)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_every_module_is_named_after_what_it_does() -> None:
    assert [name_of(path) for path in MODULES if path.stem in NAMELESS or path.parent.name in NAMELESS] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_short_or_says_why_not(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 400 or name_of(path) in LONG, f"{lines} lines; why is it one thing?"


def test_every_reason_to_be_long_is_of_a_module_there_is() -> None:
    assert {name for name in LONG if not (PACKAGE / name).is_file()} == set()


def test_every_top_level_module_can_be_imported() -> None:
    for path in PACKAGE.glob("*.py"):
        if path.stem != "__main__":
            importlib.import_module(f"fapilog.{path.stem}" if path.stem != "__init__" else "fapilog")


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_loads_nothing_heavy() -> None:
    loaded = run("""
        import sys
        import fapilog
        heavy = {"duckdb", "fastapi", "httpcore", "httpx", "numpy", "opentelemetry", "psutil", "uvicorn"}
        heavy |= {"attrs", "pandas", "polars", "scipy", "torch"}
        print(*sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
    """)
    assert loaded.split() == []


def test_importing_starts_no_thread_and_opens_nothing() -> None:
    opened = run("""
        import sys
        import threading

        import structlog, pydantic_settings, orjson, starlette, dotenv  # what they read is not ours to answer for
        import asyncio, email, importlib.metadata, json, urllib.request, uuid

        def watch(name, arguments):
            if name.startswith("socket.") or name in ("subprocess.Popen", "os.fork"):
                print(name)
            elif name == "open" and isinstance(arguments[0], str):
                path, mode, flags = arguments
                if not path.endswith((".py", ".pyc", ".so")) and ".pyc." not in path:
                    print(path, mode)

        sys.dont_write_bytecode = True
        sys.addaudithook(watch)
        import fapilog
        print(*[thread.name for thread in threading.enumerate() if thread is not threading.main_thread()])
    """)
    assert opened.split() == []
