"""Run every Python block of the documentation as a test, in the order of its page.

A page is one session: its blocks share names, and start without a configuration, in an empty directory.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from sybil import Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from fapilog import runtime
from fapilog.diagnostics import report
from fapilog.processors.validate import SCHEMAS
from fapilog.recorder import slot
from fapilog.testing import clear_context


def _begin(namespace: dict[str, Any]) -> None:
    variables = {name: os.environ.pop(name) for name in list(os.environ) if name.upper().startswith("FAPILOG_")}
    namespace["_before"] = (Path.cwd(), variables)
    namespace["_directory"] = tempfile.mkdtemp(prefix="fapilog-docs-")
    os.chdir(namespace["_directory"])
    slot.begin()
    clear_context()
    report.reset()


def _end(namespace: dict[str, Any]) -> None:
    running = runtime._state.runtime
    if running is not None:
        runtime._state.close(running, 5.0)
    clear_context()
    SCHEMAS.clear()
    before, variables = namespace["_before"]
    os.chdir(before)
    os.environ.update(variables)
    shutil.rmtree(namespace["_directory"])
    namespace.clear()  # connections to DuckDB that live to the interpreter's end are complained of after the summary


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md"],
    setup=_begin,
    teardown=_end,
).pytest()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the blocks of a page back in their order, one page after the other, behind all other tests."""
    blocks = [item for item in items if isinstance(item, SybilItem)]
    blocks.sort(key=lambda item: (str(item.path), item.example.line))
    items[:] = [*[item for item in items if not isinstance(item, SybilItem)], *blocks]
