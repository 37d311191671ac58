"""How a process ends, and that every record it logged has arrived. The numbers are those of the list of faults."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.driver import Program, at, check_books, in_file, run, whole
from tests.programs import parse_all
from tests.receiver import Receiver

BURST = "handle = configure(sys.argv[1], sys.argv[2])\nfor number in range(5_000): log.info('counted', number=number)\n"

WAITING = """
    import sys, time
    handle = configure(sys.argv[1], sys.argv[2])
    for number in range(5_000):
        log.info('counted', number=number)
    tell('logged')
    while True:
        time.sleep(1)
"""


def armed(failpoint: str) -> dict[str, Any]:
    return {"FAPILOG_TESTING": "1", "FAPILOG_FAILPOINT": failpoint}


def burst(then: str = "", before: str = "") -> str:
    return f"import sys\n{before}\n{BURST}{then}"


def everything_arrived(program: Program, directory: Path, receiver: Receiver, count: int = 5_000) -> None:
    """TRUTH and LEDGER for a process of one instance that delivered all."""
    assert list(whole(in_file(directory)).values()) == [count]
    assert in_file(directory) == at(receiver)
    for stats in check_books(program):
        assert stats["accepted"] == count
        assert [sink["delivered"] for sink in stats["sinks"].values()] == [count, count]


# F001, F002


def test_a_script_that_ends_after_a_burst_has_delivered_all_to_a_file_and_to_a_host_first_looked_up_at_the_end(
    tmp_path: Path, receiver: Receiver
) -> None:
    program = run(burst(), tmp_path, receiver.url())
    assert program.errors == b""
    everything_arrived(program, tmp_path, receiver)


def test_a_script_that_logs_a_hundred_thousand_records_in_a_loop_has_delivered_all(
    tmp_path: Path, receiver: Receiver
) -> None:
    source = burst().replace("5_000", "100_000")
    program = run(source, tmp_path, receiver.url())
    assert program.errors == b""
    everything_arrived(program, tmp_path, receiver, 100_000)


@pytest.mark.parametrize(
    "then",
    [
        "sys.exit(3)",
        pytest.param("import asyncio; asyncio.run(asyncio.sleep(0)); sys.exit(3)", marks=pytest.mark.faults_long),
    ],
)
def test_sys_exit_keeps_its_status_and_delivers_all(tmp_path: Path, receiver: Receiver, then: str) -> None:
    everything_arrived(run(burst(then), tmp_path, receiver.url(), code=3), tmp_path, receiver)


# F003


@pytest.mark.parametrize(
    ("then", "code"),
    [
        ("raise RuntimeError('in main')", 1),
        pytest.param(
            "import threading\nthread = threading.Thread(target=lambda: 1 / 0)\nthread.start()\nthread.join()",
            0,
            marks=pytest.mark.faults_long,
        ),
        pytest.param(
            "import asyncio\nasync def task(): raise RuntimeError('in a task')\nasyncio.run(task())",
            1,
            marks=pytest.mark.faults_long,
        ),
    ],
    ids=["main", "thread", "task"],
)
def test_an_unhandled_exception_is_a_record_and_keeps_the_status_and_every_other_one(
    tmp_path: Path, receiver: Receiver, then: str, code: int
) -> None:
    program = run(burst(then), tmp_path, receiver.url(), code=code)
    assert b"Error" in program.errors
    assert b"fapilog:" not in program.errors
    everything_arrived(program, tmp_path, receiver, 5_001)
    last = parse_all((tmp_path / "app.log").read_bytes())[-1]
    assert last["exception"]["type"] in ("RuntimeError", "ZeroDivisionError")


# F004


@pytest.mark.parametrize("signum", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.faults_long)])
def test_a_signal_in_the_middle_of_a_burst_delivers_every_accepted_record_and_then_ends_the_process(
    tmp_path: Path, receiver: Receiver, signum: signal.Signals
) -> None:
    source = """
        import itertools, sys
        handle = configure(sys.argv[1], sys.argv[2], http={'linger_seconds': 0.05})
        for number in itertools.count():
            log.info('counted', number=number)
            if number == 5_000:
                tell('begun')
    """
    with Program(source, tmp_path, receiver.url()) as program:
        program.wait_for("begun")
        program.signal(signum)
        program.end(-signum)
        (stats,) = check_books(program)
        everything_arrived(program, tmp_path, receiver, stats["accepted"])


def test_sigterm_after_a_burst_delivers_all_five_thousand(tmp_path: Path, receiver: Receiver) -> None:
    with Program(WAITING, tmp_path, receiver.url()) as program:
        program.wait_for("logged")
        program.signal(signal.SIGTERM)
        everything_arrived(program.end(-signal.SIGTERM), tmp_path, receiver)


def test_a_handler_of_the_programs_own_is_left_alone_and_called(tmp_path: Path, receiver: Receiver) -> None:
    handler = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: (tell('own handler'), sys.exit(7)))"
    source = burst("tell('logged')\nimport time\nwhile True: time.sleep(0.2)", before=handler)
    with Program(source, tmp_path, receiver.url()) as program:
        program.wait_for("logged")
        program.signal(signal.SIGTERM)
        program.end(7)
        assert program.all("own handler")
        everything_arrived(program, tmp_path, receiver)


def test_an_ignored_signal_stays_ignored_and_the_handlers_can_be_declined() -> None:
    program = run("""
        import signal
        from fapilog import configure_logging
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with configure_logging(sinks=['stdout']):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with configure_logging(sinks=['stdout'], drain_on_signals=False):
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    """)
    assert program.errors == b""


# F007


def test_one_interrupt_drains_and_ends_as_an_interrupt_does(tmp_path: Path, receiver: Receiver) -> None:
    with Program(WAITING, tmp_path, receiver.url()) as program:
        program.wait_for("logged")
        program.signal(signal.SIGINT)
        program.end(-signal.SIGINT)
        assert program.errors.splitlines()[-1] == b"KeyboardInterrupt"
        everything_arrived(program, tmp_path, receiver)


@pytest.mark.parametrize(
    ("signum", "spool"),
    [
        (signal.SIGINT, False),
        (signal.SIGTERM, True),
        pytest.param(signal.SIGINT, True, marks=pytest.mark.faults_long),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.faults_long),
    ],
)
def test_a_second_signal_ends_the_drain_within_two_tenths_of_a_second_and_says_what_is_left(
    tmp_path: Path, receiver: Receiver, signum: signal.Signals, *, spool: bool
) -> None:
    receiver.behave("silent")
    source = WAITING.replace("sys.argv[2])", f"sys.argv[2], http={{'spool': {spool}}}, shutdown_timeout_seconds=20)")
    with Program(source, tmp_path, receiver.url()) as program:
        program.wait_for("logged")
        program.signal(signum)
        program.wait_for("draining")
        time.sleep(0.1)
        program.signal(signum)
        asked = time.monotonic()
        program.end(-signum)
        took = time.monotonic() - asked
        (stats,) = check_books(program)
    assert took < 1.5, took  # 0.2 s for the pipeline; the rest is the interpreter's end on a busy machine
    assert whole(in_file(tmp_path)) == {stats["instance"]: 5_000}
    http = stats["sinks"]["http"]
    said = program.errors.decode().splitlines()[-1]
    if spool:
        assert (http["spooled"], http["dropped"]) == (5_000, {})
        assert said.endswith(" dropped=0 spooled: http=5000")
    else:
        assert http["dropped"] == {"shutdown_aborted": 5_000}
        assert said.endswith(" dropped=5000 (shutdown_aborted=5000)")
    assert b"Exception ignored" not in program.errors


# F009, F010, F011, F012

DURABLE = """
    import itertools, sys, threading
    handle = configure(sys.argv[1])
    def work():
        while True:
            log.info('ordinary')
            log.info('acknowledged', durable=True, mark=next(marks))
            tell('durable', mark=next(told))
    marks, told = itertools.count(), itertools.count()
    work()
"""


def killed_at(tmp_path: Path, moment: float, **variables: str) -> tuple[int, set[int]]:
    """Kill the program that long after its first acknowledged record; return what it told and what is in the file."""
    with Program(DURABLE, tmp_path, **variables) as program:
        program.wait_for("durable")
        time.sleep(moment)
        program.signal(signal.SIGKILL)
        program.end(-signal.SIGKILL)
        acknowledged = len(program.all("durable"))
    written = (tmp_path / "app.log").read_bytes()
    complete = written[: written.rfind(b"\n") + 1]
    return acknowledged, {record["mark"] for record in parse_all(complete) if "mark" in record}


def lost_by_kill(tmp_path: Path, times: int, **variables: str) -> int:
    lost = 0
    for turn in range(times):
        directory = tmp_path / str(turn)
        directory.mkdir()
        moment = (turn * 0.618 % 1) * 0.1
        acknowledged, there = killed_at(directory, moment, **variables)
        lost += len(set(range(acknowledged)) - there)
    return lost


def test_no_record_that_was_acknowledged_as_durable_is_lost_by_a_kill_at_any_of_6_moments(tmp_path: Path) -> None:
    assert lost_by_kill(tmp_path, 6) == 0


@pytest.mark.faults_long
def test_no_record_that_was_acknowledged_as_durable_is_lost_by_a_kill_at_any_of_200_moments(tmp_path: Path) -> None:
    assert lost_by_kill(tmp_path, 200) == 0


@pytest.mark.parametrize(
    "ending",
    [
        "os.kill(os.getpid(), 9)",
        pytest.param("os._exit(0)", marks=pytest.mark.faults_long),
        pytest.param("os.execv('/bin/true', ['true'])", marks=pytest.mark.faults_long),
        pytest.param("import ctypes; ctypes.string_at(0)", marks=pytest.mark.faults_long),
    ],
    ids=["SIGKILL", "_exit", "execv", "SIGSEGV"],
)
def test_nothing_is_lost_by_a_sudden_end_one_second_after_the_last_record(
    tmp_path: Path, receiver: Receiver, ending: str
) -> None:
    everything_arrived(
        run(burst(f"import os, time\ntime.sleep(1)\n{ending}"), tmp_path, receiver.url(), code=None),
        tmp_path,
        receiver,
    )


def test_a_flush_before_a_sudden_end_loses_nothing(tmp_path: Path, receiver: Receiver) -> None:
    then = "import os\nassert handle.flush().ok\nos._exit(0)"
    everything_arrived(run(burst(then), tmp_path, receiver.url()), tmp_path, receiver)


def test_a_program_that_runs_out_of_memory_and_ends_delivers_what_it_accepted(tmp_path: Path) -> None:
    then = """
import resource
assert handle.flush().ok
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 32 * 2**20,) * 2)
hoard = []
try:
    while True: hoard.append(bytearray(2**20))
except MemoryError:
    for number in range(1_000): log.info('counted', number=number)
    hoard.clear()
"""
    program = run(burst(then), tmp_path, "")
    (stats,) = check_books(program)
    failed = stats["dropped"].get("encoding_failed", 0)
    assert stats["accepted"] + failed == 6_000
    assert whole(in_file(tmp_path)) == {stats["instance"]: stats["accepted"]}


# F013


def test_what_a_finaliser_logs_when_the_interpreter_ends_goes_to_stderr(tmp_path: Path) -> None:
    program = run(
        """
        import atexit, sys
        configure(sys.argv[1])

        class Late:
            def __del__(self): log.info('from del')

        kept = Late()
        atexit.register(lambda: log.info('after the drain'))
        log.info('one')
        """,
        tmp_path,
    )
    assert [record["event"] for record in parse_all((tmp_path / "app.log").read_bytes())] == ["one", "after the drain"]
    assert [record["event"] for record in parse_all(program.errors)] == ["from del"]


def test_no_record_of_a_daemon_thread_falls_between_the_sinks_and_stderr(tmp_path: Path) -> None:
    program = run(
        """
        import sys, threading, time
        configure(sys.argv[1])
        def chatter():
            while True:
                log.info('from a thread')
                time.sleep(0.0005)
        threading.Thread(target=chatter, daemon=True).start()
        time.sleep(0.1)
        """,
        tmp_path,
    )
    *whole_lines, _torn = program.errors.split(b"\n")
    late = parse_all(b"".join(line + b"\n" for line in whole_lines))
    written = parse_all((tmp_path / "app.log").read_bytes())
    assert {record["event"] for record in late + written} == {"from a thread"}
    numbers = [int(record["id"].rpartition("-")[2]) for record in written + late]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_an_exit_function_that_was_registered_before_fapilog_is_heard_and_counted(tmp_path: Path) -> None:
    program = run(
        """
        import atexit, sys
        # as if before the import: exit functions run in reverse order
        end = fapilog.runtime._state.end
        atexit.unregister(end)
        def late():
            log.info('late')
            tell_stats(fapilog.runtime._state.runtime.stats())
        atexit.register(late)
        atexit.register(end)
        configure(sys.argv[1])
        log.info('one')
        """,
        tmp_path,
    )
    assert [record["event"] for record in parse_all(program.errors)] == ["late"]
    assert [stats["late"] for stats in check_books(program)] == [0, 1]


# F014


@pytest.mark.parametrize(
    ("far_end", "spool"),
    [
        ("silent", True),
        ("refusing", False),
        pytest.param("silent", False, marks=pytest.mark.faults_long),
        pytest.param("refusing", True, marks=pytest.mark.faults_long),
    ],
)
def test_a_dead_far_end_holds_the_end_for_the_shutdown_timeout_and_what_is_left_is_spooled_or_counted(
    tmp_path: Path, receiver: Receiver, far_end: str, *, spool: bool
) -> None:
    if far_end == "refusing":
        receiver.refuse()
    else:
        receiver.behave({"do": "silent"})
    source = f"""
        import atexit, sys, time
        handle = configure(sys.argv[1], sys.argv[2], http={{'spool': {spool}}}, shutdown_timeout_seconds=2.0)
        for number in range(5_000): log.info('counted', number=number)
        began = time.monotonic()
        close = fapilog.runtime.Runtime.close
        def timed(self, seconds):
            result = close(self, seconds)
            tell('ended', after=time.monotonic() - began)
            return result
        fapilog.runtime.Runtime.close = timed
    """
    program = run(source, tmp_path, receiver.url())
    (stats,) = check_books(program)
    assert whole(in_file(tmp_path)) == {stats["instance"]: 5_000}
    assert program.all("ended")[0]["after"] < 2.0 + 0.5 + 0.25
    http = stats["sinks"]["http"]
    said = program.errors.decode().splitlines()[-1]
    if not spool:
        assert http["dropped"] == {"shutdown_timeout": 5_000}
        assert said.endswith(" delivered: file=5000, http=0 dropped=5000 (shutdown_timeout=5000)")
        return
    assert (http["spooled"], http["dropped"]) == (5_000, {})
    assert said.endswith(" delivered: file=5000, http=0 dropped=0 spooled: http=5000")
    receiver.reset()
    later = run("import sys\nhandle = configure(*sys.argv[1:])\nlog.info('up again')", tmp_path, receiver.url())
    (after,) = check_books(later)
    assert after["sinks"]["http"]["adopted"] == 5_000
    assert whole(at(receiver)) == {stats["instance"]: 5_000, after["instance"]: 1}
    order = receiver.report()["order"]
    assert order == [f"{stats['instance']}-{n}" for n in range(1, 5_001)] + [f"{after['instance']}-1"]


# F017


@pytest.mark.parametrize(
    "error",
    [
        pytest.param("EIO", marks=pytest.mark.faults_long),
        pytest.param("MemoryError", marks=pytest.mark.faults_long),
        "SystemExit",
    ],
)
def test_a_worker_that_dies_is_back_within_a_second_and_has_lost_nothing(
    tmp_path: Path, receiver: Receiver, error: str
) -> None:
    source = """
        import sys, time
        handle = configure(sys.argv[1], sys.argv[2])
        log.info('one')
        began = time.monotonic()
        while handle.stats().sinks['file'].delivered < 1:
            assert time.monotonic() - began < 1.5
            time.sleep(0.01)
        for number in range(4_999): log.info('counted', number=number)
    """
    failpoint = armed(f"worker.take:raise={error}:1")
    program = run(source, tmp_path, receiver.url(), **failpoint)
    everything_arrived(program, tmp_path, receiver)
    assert check_books(program)[0]["restarts"] == 1
    assert program.errors.count(b"\n") == 1
    assert program.errors.startswith(b"fapilog: the worker failed and goes on")


def test_a_worker_that_dies_for_good_is_given_up_and_records_go_to_stderr_and_are_counted(tmp_path: Path) -> None:
    source = """
        import sys, time
        handle = configure(sys.argv[1])
        for number in range(100): log.info('counted', number=number)
        while not handle.stats().sinks['file'].dropped: time.sleep(0.01)
        for number in range(100): log.info('counted', number=100 + number)
        assert handle.stats().late_direct == 100
    """
    failpoint = armed("worker.take:raise:always")
    program = run(source, tmp_path, **failpoint)
    (stats,) = check_books(program)
    assert (stats["restarts"], stats["late"]) == (5, 101), "a hundred, and the record that tells what was dropped"
    assert stats["sinks"]["file"]["dropped"] == {"worker_failed": 100}
    lines = [line for line in program.errors.splitlines(keepends=True) if line.startswith(b"{")]
    written = parse_all(b"".join(lines))
    assert [record["number"] for record in written if "number" in record] == list(range(200))


# F018

NO_THREADS = """
    import asyncio, sys, threading, time
    start = threading.Thread.start
    def refuse(self):
        raise RuntimeError("can't start new thread")
    threading.Thread.start = refuse
    handle = configure(*sys.argv[1:])
"""


@pytest.mark.parametrize("within", [pytest.param("a script", marks=pytest.mark.faults_long), "an event loop"])
def test_where_no_thread_can_start_local_sinks_are_written_in_the_log_call_and_the_rest_is_spooled(
    tmp_path: Path, receiver: Receiver, within: str
) -> None:
    body = """
    def work():
        for number in range(50): log.info('counted', number=number)
        written = open(sys.argv[1] + '/app.log').read().count('\\n')
        assert written == 50, written
    async def main(): work()
    """ + ("asyncio.run(main())\n" if within == "an event loop" else "work()\n")
    program = run(NO_THREADS + body, tmp_path, receiver.url())
    (stats,) = check_books(program)
    assert whole(in_file(tmp_path)) == {stats["instance"]: 50}
    assert stats["sinks"]["http"]["spooled"] == 50
    assert b"fapilog: the worker cannot start (can't start new thread)" in program.errors
    later = run("import sys\nhandle = configure(*sys.argv[1:])\nlog.info('up again')", tmp_path, receiver.url())
    assert check_books(later)[0]["sinks"]["http"]["adopted"] == 50
    assert whole(at(receiver))[stats["instance"]] == 50


def test_when_threads_can_start_again_the_worker_does(tmp_path: Path, receiver: Receiver) -> None:
    body = """
    for number in range(50): log.info('counted', number=number)
    threading.Thread.start = start
    for number in range(50): log.info('counted', number=number)
    assert handle.flush().ok
    """
    program = run(NO_THREADS + body, tmp_path, receiver.url())
    everything_arrived(program, tmp_path, receiver, 100)


def test_what_a_sink_does_not_take_in_time_where_no_thread_can_start_waits_for_the_next_record(tmp_path: Path) -> None:
    body = """
    class Slow:
        def __init__(self): self.calls, self.seen = 0, []
        async def write(self, batch):
            self.calls += 1
            if self.calls == 1: await asyncio.sleep(60)
            self.seen += batch.lines
        async def close(self): pass
    slow = Slow()
    handle = fapilog.configure_logging(sinks=[slow], slow={'spool': False})
    log.info('one')
    log.info('two')
    tell('seen', count=len(slow.seen))
    """
    program = run(NO_THREADS + body, tmp_path)
    assert [told["count"] for told in program.all("seen")] == [2]
    check_books(program)


def test_a_delivery_that_a_fault_ends_while_it_sends_starts_again_with_what_it_held(
    tmp_path: Path, receiver: Receiver
) -> None:
    source = """
        import sys
        from fapilog.pipeline.sender import Sender
        send, calls = Sender.send, []
        async def fail_once(self, batch, failed=None):
            calls.append(self.name)
            if calls == ['http']: raise SystemExit
            return await send(self, batch, failed)
        Sender.send = fail_once
        handle = configure(sys.argv[1], sys.argv[2], http={'spool': False, 'linger_seconds': 0.01})
        log.info('one')
        while not calls: pass
        for number in range(99): log.info('counted', number=number)
    """
    program = run(source, tmp_path, receiver.url())
    everything_arrived(program, tmp_path, receiver, 100)


# The tests of the tests


def test_a_build_that_loses_one_record_in_a_thousand_before_a_sink_is_caught(
    tmp_path: Path, receiver: Receiver
) -> None:
    failpoint = armed("sink.write:lose:/1000")
    program = run(burst(), tmp_path, receiver.url(), **failpoint)
    with pytest.raises(AssertionError, match=r"are missing|5000"):
        everything_arrived(program, tmp_path, receiver)


def test_a_build_that_loses_one_record_in_a_thousand_behind_the_queue_is_caught_by_its_books(tmp_path: Path) -> None:
    failpoint = armed("worker.hand_out:lose:/1000")
    program = run(burst(), tmp_path, "", **failpoint)
    with pytest.raises(AssertionError):
        check_books(program)


def test_a_build_that_acknowledges_before_it_writes_is_caught(tmp_path: Path) -> None:
    assert lost_by_kill(tmp_path, 3, FAPILOG_TESTING="1", FAPILOG_FAILPOINT="sink.ack:lose:always") > 0
