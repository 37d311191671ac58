"""Full, failing and read-only disks, and processes killed while a file is put aside or compressed (F045 to F061)."""

import errno
import os
import resource
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fapilog.files.reading import whole
from tests.faults.driver import check_books
from tests.faults.driver import run as run_program
from tests.programs import parse, run

LOGGING = """
    import sys
    from fapilog import configure_logging, log

    uri = f"file://{sys.argv[1]}/app.log?rotation=4kB&compression=gz"
    with configure_logging(sinks=[uri], queue_overflow="block") as handle:
        for number in range(200):
            log.info("order placed", order=number)
            if number % 4 == 3:
                handle.flush()
"""
"""Rotates about ten times."""


def orders(directory: Path) -> Counter[int]:
    return Counter(parse(line)["order"] for line in whole(directory / "app.log"))


def unfinished(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.endswith(".tmp") or not path.stat().st_size]


@pytest.mark.parametrize(
    "point",
    [
        "file.write",
        "file.rotate.claimed",
        "file.rotate.footer",
        "file.rotate.moved",
        "file.compress.begun",
        "file.compress.written",
        "file.compress.renamed",
    ],
)
def test_a_process_killed_at_any_step_loses_nothing_and_the_next_one_cleans_up(tmp_path: Path, point: str) -> None:
    died = run(LOGGING, tmp_path, env={"FAPILOG_TESTING": "1", "FAPILOG_FAILPOINT": f"{point}:kill:3"})
    assert died.returncode == -9
    before = orders(tmp_path)
    assert before == Counter(range(len(before))), "something is missing, or there twice"
    assert len(before) >= 4
    if point == "file.compress.begun":
        assert unfinished(tmp_path) != []
    for path in tmp_path.iterdir():  # an empty file may be one that a living process is about to use
        if not path.stat().st_size:
            os.utime(path, (1_000_000_000, 1_000_000_000))
    ended = run(LOGGING, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert orders(tmp_path) == before + Counter(range(200))
    assert unfinished(tmp_path) == []
    assert {path.suffix for path in tmp_path.iterdir() if path.name != "app.log"} == {".gz"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k,nr_inodes=8", "none", str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def in_parts(directory: Path) -> Counter[str]:
    """Count the ids in all files of the log; every line is whole."""
    return Counter(parse(line)["id"] for line in whole(directory / "app.log"))


FILLING = """
    import json, os, sys
    from pathlib import Path
    from fapilog import configure_logging, log
    from tests.faults.child import tell_stats

    sink = {"type": "file", "path": sys.argv[1] + "/app.log", "circuit_breaker_timeout_seconds": 0.1}
    sink |= json.loads(sys.argv[2])
    with configure_logging(sinks=[sink], queue_overflow="drop", queue_maxsize=50) as handle:
        for number in range(300):
            log.info("order placed", order=number, padding="x" * 400)
            if number % 20 == 0:
                handle.flush(0.2)
        (Path(sys.argv[1]) / "ballast").unlink()
        handle.flush(10)
        log.info("there is room again")
        handle.flush(10)
"""


@pytest.mark.parametrize("options", ["{}", '{"rotation": "20 kB"}', '{"rotation": "20 kB", "fsync": "batch"}'])
def test_a_full_disk_is_counted_and_recovered_from_to_the_record(small_disk: Path, options: str) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 64 * 1024)
    ended = run_program(FILLING, small_disk, options)
    books = check_books(ended)[-1]
    sink = books["sinks"]["file"]
    there = in_parts(small_disk)
    assert there.total() == len(there) == sink["delivered"]
    assert sink["retries"] > 0
    assert b"No space left on device" in ended.errors
    assert books["accepted"] == sink["delivered"] + sum(sink["dropped"].values())
    assert sum(b"there is room again" in line for line in whole(small_disk / "app.log")) == 1


def test_without_inodes_a_file_that_cannot_be_put_aside_is_appended_to(small_disk: Path) -> None:
    for number in range(8):
        try:
            (small_disk / f"inode-{number}").touch()
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 - it must fail at some number
            break
    (small_disk / "inode-0").unlink()
    ended = run(
        """
            import sys
            from fapilog import configure_logging, log

            with configure_logging(sinks=[f"file://{sys.argv[1]}/app.log?rotation=4kB"]) as handle:
                for number in range(100):
                    log.info("order placed", order=number)
            print(handle.stats().sinks["file"].delivered)
        """,
        small_disk,
    )
    assert ended.stdout == b"100\n"
    assert ended.stderr.count(b"cannot rotate") == 1
    assert b"which is appended to" in ended.stderr
    assert orders(small_disk) == Counter(range(100))
    assert (small_disk / "app.log").stat().st_size > 4_000


def test_a_disk_that_turns_read_only_keeps_the_records_until_it_is_writable(small_disk: Path) -> None:
    ended = run_program(
        """
            import subprocess, sys
            from fapilog import configure_logging, log
            from tests.faults.child import tell_stats

            uri = f"file://{sys.argv[1]}/app.log?rotation=4kB&circuit_breaker_timeout_seconds=0.1"
            with configure_logging(sinks=[uri]) as handle:
                for number in range(50):
                    log.info("order placed", order=number)
                handle.flush()
                handle._runtime.worker.deliveries[0].sink.close()  # or it could not be made read-only
                subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
                for number in range(50, 100):
                    log.info("order placed", order=number)
                handle.flush(0.5)
                assert handle.stats().sinks["file"].delivered == 50
                subprocess.run(["mount", "-o", "remount,rw", sys.argv[1]], check=True)
                handle.flush(10)
        """,
        small_disk,
    )
    check_books(ended)
    assert b"Read-only file system" in ended.errors
    assert orders(small_disk) == Counter(range(100))


@pytest.mark.parametrize(
    ("point", "code", "when"),
    [
        ("file.write", "EIO", "2"),
        ("file.write", "EDQUOT", "/3"),
        ("file.write", "EROFS", "/2"),
        ("file.sync", "EIO", "2"),
        ("file.sync", "EIO", "/3"),
        ("file.rotate.claimed", "EDQUOT", "2"),
        ("file.rotate.claimed", "EIO", "always"),
        ("file.rotate.footer", "ENOSPC", "2"),
    ],
)
def test_an_error_of_the_disk_anywhere_loses_and_doubles_nothing(
    tmp_path: Path, point: str, when: str, code: str
) -> None:
    ended = run(
        """
            import sys
            from fapilog import configure_logging, log

            sink = {"type": "file", "path": sys.argv[1] + "/app.log", "rotation": "4 kB", "fsync": "batch",
                    "circuit_breaker_timeout_seconds": 0.05, "footer": lambda path: '{"order":-1,"id":"footer"}'}
            with configure_logging(sinks=[sink], queue_overflow="block") as handle:
                for number in range(60):
                    log.info("order placed", order=number)
                    if number % 6 == 5:
                        handle.flush()
            stats = handle.stats().sinks["file"]
            print(stats.delivered, dict(stats.dropped), stats.balanced)
        """,
        tmp_path,
        env={"FAPILOG_TESTING": "1", "FAPILOG_FAILPOINT": f"{point}:raise={code}:{when}"},
    )
    assert ended.stdout == b"60 {} True\n", ended.stderr
    found = orders(tmp_path)
    del found[-1]
    assert found == Counter(range(60))
    assert os.strerror(getattr(errno, code)).encode() in ended.stderr


@pytest.mark.parametrize("code", ["EIO", "ENOSPC"])
def test_what_cannot_be_compressed_stays_as_it_is_until_it_can(tmp_path: Path, code: str) -> None:
    ended = run(
        LOGGING,
        tmp_path,
        env={"FAPILOG_TESTING": "1", "FAPILOG_FAILPOINT": f"file.compress.written:raise={code}:always"},
    )
    assert ended.returncode == 0
    assert b"cannot compress" in ended.stderr
    assert unfinished(tmp_path) == []
    assert {path.suffix for path in tmp_path.iterdir()} == {".log"}
    assert orders(tmp_path) == Counter(range(200))


def test_without_descriptors_records_wait_until_there_are_some(tmp_path: Path) -> None:
    ended = run_program(
        """
            import os, resource, sys
            from fapilog import configure_logging, log
            from tests.faults.child import tell_stats

            uri = f"file://{sys.argv[1]}/app.log?rotation=4kB&circuit_breaker_timeout_seconds=0.1"
            with configure_logging(sinks=[uri]) as handle:
                for number in range(50):
                    log.info("order placed", order=number)
                handle.flush()
                taken = []
                try:
                    while True:
                        taken.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    pass
                os.rename(sys.argv[1] + "/app.log", sys.argv[1] + "/app.2026-01-01_00-00-00_000000.log")
                for number in range(50, 150):
                    log.info("order placed", order=number)
                handle.flush(0.5)
                for fd in taken:
                    os.close(fd)
                for number in range(150, 200):
                    log.info("order placed", order=number)
                handle.flush(10)
        """
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 1 << 20
        else "raise SystemExit('too many descriptors')",
        tmp_path,
    )
    check_books(ended)
    assert orders(tmp_path) == Counter(range(200))
    assert b"Too many open files" in ended.errors


def test_a_power_cut_after_each_step_of_a_rotation_leaves_every_line_whole(tmp_path: Path) -> None:
    """What a torn tail of an earlier process becomes, in the current file and for a reader."""
    (tmp_path / "app.log").write_bytes(b'{"order":0,"id":"a"}\n{"order":1,"i')
    ended = run(LOGGING, tmp_path)
    assert ended.returncode == 0
    lines = list(whole(tmp_path / "app.log"))
    assert lines[1] == b'{"order":1,"i\n'
    del lines[1]
    assert Counter(parse(line)["order"] for line in lines) == Counter(range(200)) + Counter([0])


def test_an_unwritable_directory_is_named_with_its_errno_and_the_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:
        if parent.stat().st_uid == os.getuid() and str(parent).startswith("/tmp/pytest"):
            parent.chmod(0o755)
    ended = run(
        """
            import os, sys
            from fapilog import configure_logging
            from fapilog.sinks import file, stdout

            os.chdir("/")
            if os.getuid() == 0:
                os.setuid(65534)
            try:
                configure_logging(sinks=[f"file://{sys.argv[1]}/app.log?rotation=1MB"])
            except Exception as error:
                print(type(error).__name__, error)
        """,
        "/proc/sys" if os.getuid() else tmp_path,
    )
    assert ended.stdout.startswith(b"SinkStartError sink 'file' cannot start: Permission denied (errno 13 EACCES) at ")
    assert b"app.log' as uid " in ended.stdout
