import signal
from pathlib import Path

import pytest

from tests.programs import parse_all, start

LOG_FOR_EVER = """
    import itertools, sys
    import fapilog

    fapilog.configure_logging(sinks=[{"type": "file", "path": sys.argv[1]}])
    fapilog.log.info("ready")
    print("ready", flush=True)
    for number in itertools.count():
        fapilog.log.info("counted", number=number)
"""


@pytest.mark.parametrize("attempt", range(8))
def test_sigterm_in_the_middle_of_a_log_call_delivers_every_record_and_ends_by_sigterm(
    tmp_path: Path, attempt: int
) -> None:
    with start(LOG_FOR_EVER, tmp_path / "app.log") as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        while not (tmp_path / "app.log").stat().st_size:
            pass
        program.send_signal(signal.SIGTERM)
        _, said = program.communicate(timeout=30)
    assert (program.returncode, said) == (-signal.SIGTERM, b"")
    numbers = [record["number"] for record in parse_all((tmp_path / "app.log").read_bytes())[1:]]
    assert numbers == list(range(len(numbers)))
