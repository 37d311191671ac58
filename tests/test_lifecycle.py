import signal
from pathlib import Path

import pytest

from tests.programs import parse, parse_all, run, start

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


def test_early_records_are_written_to_stderr_at_exit_if_nothing_was_ever_configured() -> None:
    ended = run("import fapilog; [fapilog.log.info('early', number=number) for number in range(1_003)]")
    *lines, last = ended.stderr.splitlines(keepends=True)
    assert [parse(line)["number"] for line in lines] == list(range(1_000))
    assert last == b"fapilog: 3 further records were dropped before configure_logging was called\n"
    assert (ended.returncode, ended.stdout) == (0, b"")


def test_a_sink_that_hangs_holds_the_end_of_the_process_no_longer_than_the_shutdown_timeout() -> None:
    ended = run("""
        import atexit, threading, time
        import fapilog

        class Hanging:
            def write(self, batch): threading.Event().wait()
            def close(self): pass

        atexit.register(lambda: print(time.monotonic() - began))
        fapilog.configure_logging(sinks=[Hanging()], shutdown_timeout_seconds=1.5)
        atexit.unregister(fapilog.runtime._state.end)  # to be called again, before the clock is read
        atexit.register(fapilog.runtime._state.end)
        fapilog.log.info("stuck")
        began = time.monotonic()
    """)
    assert ended.stderr == b"fapilog: accepted=1 delivered: hanging=0 dropped=1 (shutdown_timeout=1)\n"
    assert 1.4 < float(ended.stdout) < 2.4  # the timeout, and at most half a second to close the sink
