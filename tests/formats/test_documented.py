"""The table on the page about formats says what the code does."""

import re
from pathlib import Path

import pytest

from fapilog.formats import datadog, ecs, gcp, otel
from fapilog.formats.fields import ACCESS, Names

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
ROWS = {
    row[0]: row[1:]
    for row in re.findall(r"^\| `([\w.]+)`(?: ᵃ)? \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
}


@pytest.mark.parametrize(
    ("names", "column", "before"),
    [
        (otel._RESOURCE, 0, ""),
        (otel._ATTRIBUTES, 0, ""),
        (ecs._NAMES, 1, ""),
        (gcp._REQUEST, 2, "httpRequest."),
        (gcp._LABELS, 2, ""),
        (datadog._NAMES, 3, ""),
    ],
)
def test_the_table_has_the_name_of_every_field(names: Names, column: int, before: str) -> None:
    for field, (name, _) in names.items():
        assert f"`{before}{name}`" in ROWS[field][column], field


def test_of_the_resource_is_marked_what_is() -> None:
    marked = {field for field, cells in ROWS.items() if "ʳ" in cells[0]}
    assert marked == set(otel._RESOURCE)


def test_the_page_names_the_fields_of_the_access_record_alone() -> None:
    marked = set(re.findall(r"^\| `(\w+)` ᵃ \|", PAGE, re.MULTILINE))
    assert marked == ACCESS
