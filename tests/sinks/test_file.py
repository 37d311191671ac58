from pathlib import Path

import pytest

from fapilog.sinks.file import FileSink
from fapilog.testing import make_batch


def test_a_relative_path_is_that_of_the_moment_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sink = FileSink(path=Path("app.log"))
    sink.open()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    sink.write(make_batch("one"))
    sink.close()
    assert (tmp_path / "app.log").read_bytes() == make_batch("one").payload
