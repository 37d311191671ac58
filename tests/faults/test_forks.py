"""Processes that fork while they log: each has its own records, all of them, and none disturbs the other."""

import sys
from pathlib import Path

import pytest

from fapilog.pipeline.queue import Sequence
from fapilog.store import LogStore
from tests.faults.driver import Program, at, check_books, in_file, run, whole
from tests.programs import parse_all
from tests.receiver import Receiver

FORKING = """
    import os, sys, threading, time
    handle = configure(sys.argv[1], sys.argv[2])
    log.info('in the parent')
    assert handle.flush().ok
    counted = 1
"""

CHILD = """
    if not (pid := FORK()):
        signal.alarm(20)
        for number in range(1_000): log.info('in the child', number=number)
        tell('child', instance=handle.stats().instance)
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    log.info('in the parent again')
"""


def forking(how: str, before: str = "") -> str:
    return FORKING + "    import ctypes, signal\n" + before + CHILD.replace("FORK()", how)


# F019, F020


def test_a_forked_child_delivers_its_thousand_under_a_name_of_its_own_and_the_parent_goes_on(
    tmp_path: Path, receiver: Receiver
) -> None:
    program = run(forking("os.fork()"), tmp_path, receiver.url())
    assert program.errors == b""
    counts = whole(in_file(tmp_path))
    child = program.all("child")[0]["instance"]
    assert counts.pop(child) == 1_000
    assert list(counts.values()) == [2]
    assert in_file(tmp_path) == at(receiver)
    assert len(check_books(program)) == 2


def test_a_child_sends_nothing_over_a_connection_of_its_parent(tmp_path: Path, receiver: Receiver) -> None:
    run(forking("os.fork()"), tmp_path, receiver.url())
    requests = receiver.report()["requests"]
    pids: dict[int, set[int]] = {}
    lines = iter(parse_all(b"".join(receiver.lines())))
    for request in requests:
        pids.setdefault(request["connection"], set()).update(next(lines)["pid"] for _ in range(request["records"]))
    assert [len(found) for found in pids.values()] == [1] * len(pids)


def test_what_waits_in_the_parent_at_the_fork_is_delivered_once_and_by_the_parent(
    tmp_path: Path, receiver: Receiver
) -> None:
    source = forking("os.fork()", before="    for number in range(3_000): log.info('waiting', number=number)\n")
    program = run(source, tmp_path, receiver.url())
    child = program.all("child")[0]["instance"]
    counts = whole(in_file(tmp_path))
    assert counts.pop(child) == 1_000
    assert list(counts.values()) == [3_002]
    assert in_file(tmp_path) == at(receiver)


STORM = """
    import os, signal, sys, threading
    handle = configure(sys.argv[1], block_timeout_seconds=30)
    stop = threading.Event()
    counts = [0] * 4
    def chatter(index):
        while not stop.is_set():
            log.info('from a thread', index=index)
            counts[index] += 1
    threads = [threading.Thread(target=chatter, args=(index,)) for index in range(4)]
    for thread in threads: thread.start()
    wedged = 0
    for turn in range(int(sys.argv[2])):
        if not (pid := os.fork()):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)
            for number in range(20): log.info('in the child', turn=turn)
            assert handle.flush().ok
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        if status: wedged += 1; tell('wedged', turn=turn, status=status)
    stop.set()
    for thread in threads: thread.join()
    tell('parent', instance=handle.stats().instance, count=sum(counts), wedged=wedged)
"""


def check_storm(tmp_path: Path, forks: int) -> None:
    program = run(STORM, tmp_path, forks)
    (parent,) = program.all("parent")
    assert parent["wedged"] == 0, program.all("wedged")
    (stats,) = check_books(program)
    counts = whole(in_file(tmp_path))
    assert counts.pop(parent["instance"]) == parent["count"] == stats["accepted"]
    assert sorted(counts.values()) == [20] * forks


def test_15_forks_under_4_logging_threads_end_without_a_deadlock(tmp_path: Path) -> None:
    check_storm(tmp_path, 15)


@pytest.mark.faults_long
def test_200_forks_under_4_logging_threads_end_without_a_deadlock(tmp_path: Path) -> None:
    check_storm(tmp_path, 200)


# F021


def test_parent_and_child_write_to_slots_of_their_own_in_the_store(tmp_path: Path) -> None:
    source = """
        import os, sys
        handle = fapilog.configure_logging(sinks=[{'type': 'duckdb', 'path': sys.argv[1] + '/store'}])
        for number in range(500): log.info('before', number=number)
        assert handle.flush().ok
        if not (pid := os.fork()):
            for number in range(1_000): log.info('in the child', number=number)
            sys.exit(0)
        for number in range(500): log.info('after', number=number)
        assert os.waitpid(pid, 0)[1] == 0
    """
    program = run(source, tmp_path)
    assert program.errors == b""
    assert len(check_books(program)) == 2
    with LogStore(tmp_path / "store") as store:
        rows = store.sql("select count(*), count(distinct id) from logs group by pid").fetchall()
    assert rows == [(1_000, 1_000)] * 2
    segments = [path.name.partition("-")[0] for path in (tmp_path / "store" / "segments").glob("*.jsonl")]
    assert len(set(segments)) == 2


# F022


def test_a_fork_in_c_that_calls_no_hook_is_noticed_by_the_next_log_call(tmp_path: Path, receiver: Receiver) -> None:
    # The GIL is held, as by an extension, and no thread waits for it: such a wait goes on in the child for ever, where
    # only the hooks that this fork does not call make the interpreter's own locks anew.
    program = run(forking("ctypes.PyDLL(None).fork()", before="    time.sleep(0.5)\n"), tmp_path, receiver.url())
    counts = whole(in_file(tmp_path))
    assert counts.pop(program.all("child")[0]["instance"]) == 1_000
    assert list(counts.values()) == [2]
    assert in_file(tmp_path) == at(receiver)
    check_books(program)


def test_a_child_forked_in_c_that_logs_nothing_ends_without_touching_its_parents_pipeline(tmp_path: Path) -> None:
    source = """
        import ctypes, os, sys, time
        handle = configure(sys.argv[1])
        log.info('in the parent')
        assert handle.flush().ok
        time.sleep(0.5)
        began = time.monotonic()
        if not (pid := ctypes.PyDLL(None).fork()):
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert time.monotonic() - began < 3
        log.info('in the parent again')
    """
    program = run(source, tmp_path)
    assert list(whole(in_file(tmp_path)).values()) == [2]
    assert program.errors == b""


# F023


@pytest.mark.parametrize(
    "where",
    [
        "with handle._runtime.queue.lock:",
        pytest.param("with handle._runtime.worker._starting:", marks=pytest.mark.faults_long),
        pytest.param("with fapilog.runtime._state._lock:", marks=pytest.mark.faults_long),
        pytest.param("with fapilog.diagnostics.report._lock:", marks=pytest.mark.faults_long),
    ],
)
def test_a_fork_while_another_thread_holds_a_lock_of_ours_wedges_neither(tmp_path: Path, where: str) -> None:
    source = f"""
        import os, signal, sys, threading
        handle = configure(sys.argv[1])
        log.info('one')
        held, forked = threading.Event(), threading.Event()
        def hold():
            {where}
                held.set()
                forked.wait()
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        if not (pid := os.fork()):
            signal.alarm(10)
            fapilog.diagnostics.report('said in the child')
            log.info('in the child')
            sys.exit(0)
        forked.set()
        holder.join()
        assert os.waitpid(pid, 0)[1] == 0
        log.info('two')
    """
    program = run(source, tmp_path)
    assert sorted(whole(in_file(tmp_path)).values()) == [1, 2]
    assert program.errors == b"fapilog: said in the child\n"


def test_each_generation_has_a_name_of_its_own_also_when_the_fork_happens_during_the_drain(tmp_path: Path) -> None:
    source = """
        import os, sys, threading, time
        class Slow:
            def write(self, batch): begun.set(); time.sleep(0.5)
            def close(self): pass
        begun = threading.Event()
        handle = fapilog.configure_logging(sinks=[Slow(), {'type': 'file', 'path': sys.argv[1] + '/app.log'}])
        log.info('first')
        closing = threading.Thread(target=fapilog.runtime._state.end)
        closing.start()
        begun.wait()
        if not (pid := os.fork()):
            log.info('child')
            if not (pid := os.fork()):
                log.info('grandchild')
                sys.exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        closing.join()
    """
    program = run(source, tmp_path)
    assert program.errors == b""
    assert sorted(whole(in_file(tmp_path)).values()) == [1, 1, 1]
    assert len({stats["instance"] for stats in check_books(program)}) == 3


# F024


@pytest.mark.parametrize(
    ("method", "ends"),
    [
        ("fork", "return"),
        ("spawn", "return"),
        *[
            pytest.param(method, ends, marks=pytest.mark.faults_long)
            for method in ("fork", "spawn", "forkserver")
            for ends in ("return", "sys.exit(3)", "raise")
            if (method, ends) not in (("fork", "return"), ("spawn", "return"))
        ],
    ],
)
def test_a_process_of_multiprocessing_has_delivered_all(
    tmp_path: Path, receiver: Receiver, method: str, ends: str
) -> None:
    program_file = tmp_path / "program.py"
    program_file.write_text(f"""
import multiprocessing, sys, threading
from tests.faults.child import configure, tell, tell_stats
from fapilog import log

def work(directory, endpoint):
    if {method != "fork"}:
        configure(directory, endpoint)
    for number in range(1_000): log.info('in the child', number=number)
    tell('child')
    {"raise RuntimeError('no')" if ends == "raise" else ends}

if __name__ == '__main__':
    configure(*sys.argv[1:])
    log.info('in the parent')
    context = multiprocessing.get_context('{method}')
    process = context.Process(target=work, args=sys.argv[1:])
    process.start()
    process.join(30)
    assert process.exitcode == {{'return': 0, 'sys.exit(3)': 3, 'raise': 1}}['{ends}'], process.exitcode
""")
    with Program("", tmp_path, receiver.url(), command=[sys.executable, str(program_file)]) as program:
        program.end()
        assert program.all("child")
    assert sorted(whole(in_file(tmp_path)).values()) == [1, 1_000]
    assert in_file(tmp_path) == at(receiver)


def test_what_a_thread_logs_after_the_main_function_of_a_multiprocessing_child_is_delivered(tmp_path: Path) -> None:
    source = """
        import multiprocessing, sys, threading, time
        def late():
            time.sleep(0.5)
            for number in range(100): log.info('late', number=number)
        def work():
            log.info('child')
            threading.Thread(target=late).start()
        configure(sys.argv[1])
        process = multiprocessing.get_context('fork').Process(target=work)
        process.start()
        process.join(30)
        assert process.exitcode == 0
    """
    run(source, tmp_path)
    assert list(whole(in_file(tmp_path)).values()) == [101]


def test_a_multiprocessing_child_that_cannot_deliver_says_how_many_records_it_lost(tmp_path: Path) -> None:
    source = """
        import multiprocessing, sys
        def work():
            for number in range(100): log.info('child', number=number)
        configure(sys.argv[1], sys.argv[2], http={'spool': False}, shutdown_timeout_seconds=1)
        process = multiprocessing.get_context('fork').Process(target=work)
        process.start()
        process.join(30)
    """
    program = run(source, tmp_path, "http://127.0.0.1:9/")
    assert b"dropped=100 (shutdown_timeout=100)\n" in program.errors
    assert list(whole(in_file(tmp_path)).values()) == [100]


def test_what_belongs_to_one_process_refuses_to_be_sent_to_another(tmp_path: Path) -> None:
    source = """
        import pickle, sys
        handle = configure(sys.argv[1])
        for each in (handle, handle._runtime, handle._runtime.queue, handle._runtime.worker):
            try:
                pickle.dumps(each)
            except TypeError as error:
                tell('refused', error=str(error))
        assert pickle.loads(pickle.dumps(log.bind(shop=1)))._context == {'shop': 1}
    """
    told = [each["error"] for each in run(source, tmp_path).all("refused")]
    way_out = "belongs to one process and cannot be pickled; call configure_logging in the other"
    assert told == [f"a {name} {way_out}" for name in ("Handle", "Runtime", "Queue", "Worker")]


# F025


def test_programs_started_by_subprocess_inherit_no_file_of_ours(tmp_path: Path, receiver: Receiver) -> None:
    source = """
        import os, subprocess, sys
        directory, endpoint = sys.argv[1:]
        handle = fapilog.configure_logging(
            sinks=[{'type': 'file', 'path': directory + '/app.log'}, {'type': 'duckdb', 'path': directory + '/store'},
                   {'type': 'http', 'endpoint': endpoint}],
            spool_path=directory + '/spool',
        )
        log.info('one')
        assert handle.flush().ok
        usual = {os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 1, 2)}
        for _ in range(20):
            shown = subprocess.run(['ls', '-l', '/proc/self/fd'], capture_output=True, text=True, close_fds=False)
            names = [line.partition(' -> ')[2] for line in shown.stdout.splitlines() if ' -> ' in line]
            strange = [name for name in names if directory in name or 'socket:' in name or 'eventpoll' in name]
            assert not strange, strange
    """
    assert run(source, tmp_path, receiver.url()).errors == b""


# F031


def test_a_hundred_thousand_starts_have_a_hundred_thousand_names() -> None:
    assert len({Sequence().instance for _ in range(100_000)}) == 100_000


def test_processes_with_the_same_seed_have_names_of_their_own(tmp_path: Path) -> None:
    source = """
        import os, random, sys
        random.seed(1)
        configure(sys.argv[1])
        for _ in range(5):
            if not (pid := os.fork()):
                random.seed(1)
                log.info('child')
                sys.exit(0)
            os.waitpid(pid, 0)
    """
    run(source, tmp_path)
    assert list(whole(in_file(tmp_path)).values()) == [1] * 5


# The tests of the tests


def test_a_build_that_does_not_begin_anew_in_a_child_is_caught(tmp_path: Path, receiver: Receiver) -> None:
    failpoint = {"FAPILOG_TESTING": "1", "FAPILOG_FAILPOINT": "forks.begin_anew:lose:always"}
    program = run(
        forking("os.fork()").replace("alarm(20)", "alarm(8)"), tmp_path, receiver.url(), code=None, **failpoint
    )
    told = program.all("child")
    arrived = whole(in_file(tmp_path)) if program.process.returncode == 0 else {}
    assert not told or arrived.get(told[0]["instance"]) != 1_000
