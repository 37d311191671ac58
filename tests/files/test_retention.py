import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fapilog.errors import ConfigurationError
from fapilog.files.names import Member, Names
from fapilog.files.retention import Retention

NOW = 1_800_000_000.0


def members(tmp_path: Path, *ages_and_sizes: tuple[float, int]) -> list[Member]:
    for number, (age, size) in enumerate(ages_and_sizes):
        path = tmp_path / f"app.2026-01-01_00-00-00_{number:06d}.log"
        path.write_bytes(b"x" * size)
        os.utime(path, (NOW - age, NOW - age))
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        return Names(tmp_path / "app.log").members(directory)
    finally:
        os.close(directory)


def gone(rule: Any, found: list[Member]) -> list[int]:
    retention = Retention.parse(rule)
    assert retention is not None
    return sorted(int(member.stamp[20:26]) for member in retention.expired(found, NOW))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("2 files", [0, 1]),
        ("1 file", [0, 1, 2]),
        (3, [0]),
        ("3", [0]),
        (0, [0, 1, 2, 3]),
        ("7 days", [0]),
        (timedelta(hours=30), [0, 1]),
        ("25 B", [0, 1]),
        ("1 GB", []),
        (["3 files", "25 B"], [0, 1]),
    ],
)
def test_what_is_too_many_too_old_or_too_large_goes_the_oldest_first(tmp_path: Path, rule: Any, expected: Any) -> None:
    day = 86_400
    assert gone(rule, members(tmp_path, (8 * day, 10), (2 * day, 10), (day, 10), (0, 10))) == expected


@pytest.mark.parametrize("rule", [None, []])
def test_no_rule_keeps_everything(rule: Any) -> None:
    assert Retention.parse(rule) is None


@pytest.mark.parametrize(
    "rule",
    [
        "some files",
        "",
        "-3 files",
        "9" * 5_000,
        "1e400 GB",
        "1.5",
        "1e3",
        -1,
        True,
        1.5,
        "0 days",
        timedelta(),
        object(),
    ],
)
def test_what_is_no_rule_is_named_beside_the_grammar(rule: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Retention.parse([10, rule])
    assert repr(rule) in str(caught.value)
    assert "write a count ('10 files'), an age ('7 days'" in str(caught.value)
