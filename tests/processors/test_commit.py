import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fapilog import log
from fapilog.processors.commit import VARIABLES, find_commit
from fapilog.testing import capture

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*VARIABLES, *(name for name in os.environ if name.startswith("GIT_"))]:
        monkeypatch.delenv(name, raising=False)


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    directory = tmp_path / "shop"
    directory.mkdir()
    git(directory, "init", "-q", "-b", "main")
    git(directory, "commit", "-q", "--allow-empty", "-m", "one")
    return directory


def test_the_commit_of_a_branch_is_found_from_a_directory_below(checkout: Path) -> None:
    (checkout / "a" / "b").mkdir(parents=True)
    assert find_commit(checkout / "a" / "b") == git(checkout, "rev-parse", "HEAD")


def test_it_is_found_among_packed_references(checkout: Path) -> None:
    git(checkout, "pack-refs", "--all")
    assert not (checkout / ".git" / "refs" / "heads" / "main").exists()
    assert find_commit(checkout) == git(checkout, "rev-parse", "HEAD")


def test_it_is_found_where_no_branch_is_checked_out(checkout: Path) -> None:
    git(checkout, "checkout", "-q", "--detach")
    assert find_commit(checkout) == git(checkout, "rev-parse", "HEAD")


def test_it_is_found_in_a_worktree(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "worktree", "add", "-q", "-b", "feature/x", str(tmp_path / "tree"))
    git(tmp_path / "tree", "commit", "-q", "--allow-empty", "-m", "two")
    assert find_commit(tmp_path / "tree") == git(tmp_path / "tree", "rev-parse", "HEAD")
    assert find_commit(tmp_path / "tree") != find_commit(checkout)


def test_a_checkout_without_a_commit_has_none(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git(tmp_path, "init", "-q")
    assert find_commit(tmp_path) is None


def test_without_a_checkout_there_is_none(tmp_path: Path) -> None:
    assert find_commit(tmp_path) is None


@pytest.mark.parametrize(
    ("head", "more"),
    [
        ("", {}),
        ("not a commit", {}),
        ("ref: refs/heads/../../../secret", {"../secret": COMMIT}),
        ("ref: /etc/passwd", {}),
        ("ref: refs/heads/gone", {}),
        ("ref: refs/heads/odd", {"refs/heads/odd": "not a commit"}),
        ("ref: refs/heads/.invalid", {}),
        ("\x00\xff", {}),
    ],
)
def test_a_damaged_checkout_is_none(head: str, more: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for name, content in {"HEAD": head, **more}.items():
        path = tmp_path / ".git" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("latin-1"))
    assert find_commit(tmp_path) is None


@pytest.mark.parametrize("pointer", ["gitdir: nowhere", "nonsense", ""])
def test_a_pointer_to_nowhere_is_none(pointer: str, tmp_path: Path) -> None:
    (tmp_path / ".git").write_text(pointer)
    assert find_commit(tmp_path) is None


def test_the_variable_of_a_build_wins(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_SHA", "ABCDEF1")
    assert find_commit(checkout) == "abcdef1"
    monkeypatch.setenv("GIT_COMMIT", "$(git rev-parse HEAD)")
    assert find_commit(checkout) == "abcdef1"


def test_the_commit_is_the_version_if_there_is_no_other(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    commit = git(checkout, "rev-parse", "HEAD")
    for settings, version in (({}, commit), ({"version": "1.2"}, "1.2")):
        with capture(enrich=["git"], **settings) as captured:
            log.info("placed")
            (record,) = captured.records
        assert (record["git_commit"], record["version"]) == (commit, version)
    with capture(enrich=["git", "-version"]) as captured:
        log.info("placed")
        assert "version" not in captured.records[0]
