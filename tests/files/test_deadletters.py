import threading
from pathlib import Path

import pytest

from fapilog.files.deadletters import DeadLetters
from fapilog.testing import make_batch


def test_records_are_kept_as_lines_readable_by_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "dead" / "loki.jsonl"
    letters = DeadLetters(path)
    first, second = make_batch("one", "two"), make_batch("three")
    letters.append(first)
    letters.append(second)
    assert path.read_bytes() == first.payload + second.payload
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_nothing_is_made_before_the_first_record(tmp_path: Path) -> None:
    DeadLetters(tmp_path / "dead" / "loki.jsonl")
    assert not list(tmp_path.iterdir())


def test_they_take_no_more_than_twice_the_limit_and_the_newest_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "loki.jsonl"
    letters = DeadLetters(path, max_bytes=2_000)
    for number in range(200):
        letters.append(make_batch(f"event {number:05}"))
        size = sum(each.stat().st_size for each in tmp_path.iterdir())
        assert size <= 2 * 2_000 + 200
    kept = b"".join(each.read_bytes() for each in (path.with_suffix(".1"), path) if each.exists())
    assert b"event 00199" in kept
    assert sorted(each.name for each in tmp_path.iterdir()) == ["loki.1", "loki.jsonl"]


def test_several_processes_may_share_the_file(tmp_path: Path) -> None:
    path = tmp_path / "loki.jsonl"

    def write(name: int) -> None:
        letters = DeadLetters(path)
        for number in range(50):
            letters.append(make_batch(f"{name} {number} " + "x" * 2_000))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    lines = path.read_bytes().splitlines()
    assert len(lines) == 200
    assert all(line.startswith(b"{") and line.endswith(b"}") for line in lines)


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "loki.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"symbolic|loop|Too many"):
        DeadLetters(tmp_path / "loki.jsonl").append(make_batch("one"))
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with pytest.raises(OSError, match="No space"):
        DeadLetters(Path("/dev/full")).append(make_batch("one"))
