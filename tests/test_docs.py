"""The documentation says what is true. Its Python blocks are run by the conftest.py of the root."""

import importlib.util
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from fapilog.diagnostics import DropReason, FilterReason
from fapilog.plugins import BUILT_IN, find
from fapilog.settings import LoggingSettings
from fapilog.store.schema import COLUMNS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])


def load_hooks() -> Any:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = load_hooks()


def rendered(page: str) -> str:
    text: str = hooks.on_page_markdown((ROOT / "docs" / page).read_text())
    return text


def test_the_settings_page_has_every_setting_with_its_description() -> None:
    page = rendered("settings.md")
    for name, field in LoggingSettings.model_fields.items():
        if name != "sink_options":
            assert f"`FAPILOG_{name.upper()}`" in page
            assert " ".join((field.description or "").split()).replace("|", "\\|") in page


@pytest.mark.parametrize("sink", sorted(BUILT_IN["sink"]))
def test_the_settings_page_has_every_option_of_a_sink(sink: str) -> None:
    page = rendered("settings.md")
    for name in find("sink", sink).__pydantic_fields__:
        assert name.startswith("_") or f"`FAPILOG_{sink.upper()}__{name.upper()}`" in page


def test_no_type_on_the_settings_page_is_one_of_python() -> None:
    assert not re.search(r"Annotated|NoneType|typing|pydantic|\bstr\b", rendered("settings.md").split("generated")[-1])


def test_the_store_page_has_every_column() -> None:
    page = rendered("store.md")
    assert all(f"| `{column.name}` | {column.type} |" in page for column in COLUMNS)


def test_the_command_line_page_has_every_command_and_option() -> None:
    from fapilog.cli import commands

    page = rendered("cli.md")
    for name, command in commands.commands.items():
        section = page.partition(f"### fapilog {name}\n")[2].partition("\n### ")[0]
        assert section
        options = [option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)]
        assert [option for option in options if option.startswith("-") and option not in section] == []


def test_the_command_line_page_explains_every_exit_code() -> None:
    from fapilog.cli import terminal

    codes = {0, terminal.FAILED, terminal.WRONG_INPUT, terminal.INTERRUPTED, terminal.PIPE_CLOSED, terminal.TERMINATED}
    table = (ROOT / "docs" / "cli.md").read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == codes


def test_the_delivery_page_explains_every_reason_for_a_loss_and_no_other() -> None:
    page = (ROOT / "docs" / "delivery.md").read_text()
    explained = re.findall(r"^\| `(\w+)` \|", page.partition("| reason |")[2], re.MULTILINE)
    assert explained == list(get_args(DropReason))


def test_the_filtering_page_explains_every_reason_and_no_other() -> None:
    table = (ROOT / "docs" / "filtering.md").read_text().partition("| reason |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(get_args(FilterReason))


def test_the_architecture_page_shows_the_house_as_it_is() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    house = page.partition("fapilog/\n")[2].partition("```")[0]
    shown = set(re.findall(r"^    (\w+(?:\.py|/)) ", house, re.MULTILINE))
    package = ROOT / "fapilog"
    there = {path.name for path in package.glob("*.py")} | {
        f"{path.parent.name}/" for path in package.glob("*/__init__.py")
    }
    assert shown == there


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_request_of_a_page_is_known(page: Path) -> None:
    assert set(re.findall(r"<!-- generated: ([\w-]+) -->", page.read_text())) <= set(hooks.GENERATORS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_a_page_names_exists(page: Path) -> None:
    known = {f"FAPILOG_{name.upper()}" for name in LoggingSettings.model_fields}
    for sink in BUILT_IN["sink"]:
        known |= {f"FAPILOG_{sink.upper()}__{name.upper()}" for name in find("sink", sink).__pydantic_fields__}
    written = re.findall(r"\bFAPILOG_[A-Z_]*[A-Z]", page.read_text())
    named = {"__".join(name.split("__")[:2]) for name in written}  # what an option holds has names of the user's
    assert named - known <= {"FAPILOG_AUDIT__PATH"}, "FAPILOG_AUDIT__PATH is the example's own"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_documentation_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_example_shop_is_in_the_wheel_where_the_demo_looks_for_it() -> None:
    import tomllib

    from fapilog.demo import show

    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["sources"] == {"examples/shop": "fapilog/demo/shop"}
    assert "examples/shop" in wheel["only-include"]
    assert show.find_shop() == ROOT / "examples" / "shop"
