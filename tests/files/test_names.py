import os
from datetime import date
from pathlib import Path

import pytest

from fapilog.errors import ConfigurationError
from fapilog.files.names import Names, aside

STAMP = "2026-11-20_12-49-50_123456"
AT = 1_795_178_990.123456


def found(tmp_path: Path, names: Names, *files: str) -> list[str]:
    for name in files:
        (tmp_path / name).touch()
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        return sorted(member.name for member in names.members(directory))
    finally:
        os.close(directory)


def test_tokens_stand_for_the_process_the_service_and_the_day() -> None:
    names = Names(Path("/logs/{service}-{pid}.{date}.log"), service="shop")
    assert names.current(date(2026, 11, 20)) == Path(f"/logs/shop-{os.getpid()}.2026-11-20.log")


@pytest.mark.parametrize("service", ["../../etc/cron.d/x", "/abs", "..", "a\0b", ".hidden"])
def test_a_service_cannot_move_the_file(service: str) -> None:
    path = Names(Path("/logs/{service}.log"), service=service).current()
    assert path.parent == Path("/logs")
    assert "\0" not in path.name
    assert path.name.count(".") == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/logs/{host}.log", r"holds \{host\}; known: \{pid\}, \{service\}, \{date\}"),
        ("/logs/app_{time:YYYY-MM-DD}.log", r"holds \{time:YYYY-MM-DD\}; known: "),
        ("/logs/{}.log", r"holds \{\}; known: "),
        ("/logs/{date}/app.log", "put it in the file's name"),
        ("/logs/{service}.log", "set FAPILOG_SERVICE"),
    ],
)
def test_a_token_that_cannot_be_is_named(path: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Names(Path(path))


def test_a_name_that_is_taken_gets_a_number() -> None:
    taken = {f"app.{STAMP}.log", f"app.{STAMP}.1.log"}
    assert aside("app.log", AT, lambda _: True) == f"app.{STAMP}.log"
    assert aside("app.log", AT, lambda name: name not in taken) == f"app.{STAMP}.2.log"
    assert aside("app", AT, lambda _: True) == f"app.{STAMP}"


def test_only_files_of_the_same_log_are_members(tmp_path: Path) -> None:
    ours = ["app.log", f"app.{STAMP}.log", f"app.{STAMP}.3.log.gz", f"app.{STAMP}.log.zst.tmp"]
    others = ["app.log.1", "app.txt", f"other.{STAMP}.log", f"app.{STAMP}.jsonl", "xapp.log", f"app.{STAMP}.log.rar"]
    (tmp_path / f"app.{STAMP}.7.log").symlink_to(tmp_path / "app.log")
    (tmp_path / f"app.{STAMP}.8.log").mkdir()
    assert found(tmp_path, Names(tmp_path / "app.log"), *ours, *others) == sorted(ours)


def test_files_of_other_days_and_processes_are_members(tmp_path: Path) -> None:
    ours = ["app-1-2026-11-19.log", f"app-22-2026-11-20.{STAMP}.log"]
    others = ["app-x-2026-11-19.log", "app-1-20261119.log"]
    assert found(tmp_path, Names(tmp_path / "app-{pid}-{date}.log"), *ours, *others) == ours
