import errno
import os
import signal
import subprocess
import sys

import pytest

from fapilog import failpoints
from fapilog.failpoints import parse

HITS = """
from fapilog.failpoints import hit
for number in range(1, 7):
    try:
        if hit("here"):
            print(number, "lost", flush=True)
        hit("elsewhere")
    except OSError as error:
        print(number, error.errno, error.filename, flush=True)
"""


def run(spec: str, *, testing: str = "1") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HITS],
        env=os.environ | {"FAPILOG_FAILPOINT": spec, "FAPILOG_TESTING": testing},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_point_can_end_the_process_at_once() -> None:
    assert run("here:exit:2").returncode == 137


def test_a_point_can_kill_the_process() -> None:
    assert run("here:kill:1").returncode == -signal.SIGKILL


def test_a_point_can_fail_with_any_errno_from_some_hit_on() -> None:
    assert run("here:raise=ENOSPC:5+").stdout.split("\n")[:2] == [f"{n} {errno.ENOSPC} here" for n in (5, 6)]


def test_several_points_are_armed_at_once() -> None:
    lines = run("here:lose:/2,elsewhere:raise:3").stdout.splitlines()
    assert lines == ["2 lost", f"3 {errno.EIO} elsewhere", "4 lost", "6 lost"]


def test_always_is_every_hit() -> None:
    assert len(run("here:lose:always").stdout.splitlines()) == 6


def test_nothing_happens_and_nothing_is_read_unless_testing() -> None:
    result = run("here:exit:always", testing="0")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert run("nonsense", testing="").returncode == 0


def test_a_process_that_is_not_a_test_has_only_a_function_that_returns_false() -> None:
    if failpoints.TESTING:
        pytest.skip("this process was started with FAPILOG_TESTING=1")
    assert failpoints.hit("anything") is False
    assert not hasattr(failpoints, "arm")


@pytest.mark.parametrize(
    "text", ["here", "here:exit", "here:explode:1", ":exit:1", "here:raise=ENOTHING:1", "here:exit:0", "here:exit:-1"]
)
def test_what_is_not_a_failpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"failpoint|when"):
        parse(text)


@pytest.mark.parametrize("name", ["MemoryError", "SystemExit"])
def test_a_point_can_raise_what_is_no_error_of_the_system(name: str) -> None:
    ended = run(f"here:raise={name}:1")
    assert ended.returncode == 1
    assert (name in ended.stderr) is (name == "MemoryError")
    assert "here" in ended.stderr
