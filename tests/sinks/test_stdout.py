import subprocess

from tests.programs import command, environment

LOG_TO_STDOUT = """
    import fapilog

    fapilog.configure_logging(sinks=["stdout"])
    for number in range(20_000):
        fapilog.log.info("counted", number=number)
"""


def test_a_reader_that_has_enough_ends_the_sink_and_nothing_else() -> None:
    with subprocess.Popen(
        command(LOG_TO_STDOUT), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert b'"number":0,' in program.stdout.readline()
        program.stdout.close()
        assert (program.stderr.read(), program.wait(30)) == (b"", 0)
