import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.programs import environment, parse, parse_all, run, start

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
    assert ended.stderr.splitlines() == [
        b"fapilog: sink hanging is stuck in write(); its records wait",
        b"fapilog: accepted=1 delivered: hanging=0 dropped=1 (shutdown_timeout=1)",
    ]
    assert 1.4 < float(ended.stdout) < 2.4  # the timeout, and at most half a second to close the sink


ENDINGS = {
    "by falling off the end": ("", 0),
    "by sys.exit": ("sys.exit(7)", 7),
    "by an unhandled exception": ("raise ValueError('unhandled')", 1),
}


@pytest.mark.parametrize("count", [1, 1_000, 20_000])
@pytest.mark.parametrize("ending", list(ENDINGS))
def test_a_script_that_ends_without_flushing_has_delivered_everything(tmp_path: Path, count: int, ending: str) -> None:
    last_line, code = ENDINGS[ending]
    ended = run(
        f"""
            import sys
            import fapilog

            fapilog.configure_logging(sinks=["stdout", {{"type": "file", "path": sys.argv[1]}}])
            for number in range(int(sys.argv[2])):
                fapilog.log.info("counted", number=number)
            {last_line}
        """,
        tmp_path / "app.log",
        count,
    )
    assert ended.returncode == code
    counted = [record["number"] for record in parse_all(ended.stdout) if record["event"] == "counted"]
    assert counted == list(range(count))
    assert (tmp_path / "app.log").read_bytes() == ended.stdout
    assert b"fapilog: " not in ended.stderr


def test_an_uncaught_exception_in_a_thread_costs_no_record(tmp_path: Path) -> None:
    ended = run(
        """
            import sys, threading
            import fapilog

            def work():
                fapilog.log.info("from a thread")
                raise SystemExit(1)

            fapilog.configure_logging(sinks=["stdout"])
            threading.Thread(target=work).start()
        """
    )
    assert [record["event"] for record in parse_all(ended.stdout)] == ["from a thread"]
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_thread_that_outlives_the_main_one_is_heard_to_its_end() -> None:
    ended = run(
        """
            import threading
            import fapilog

            def work():
                threading.main_thread().join()
                for number in range(500):
                    fapilog.log.info("late", number=number)

            fapilog.configure_logging(sinks=["stdout"])
            fapilog.log.info("first")
            threading.Thread(target=work).start()
        """
    )
    assert len(parse_all(ended.stdout)) == 501
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_what_exit_functions_log_is_delivered_or_told_on_stderr() -> None:
    ended = run(
        """
            import atexit

            atexit.register(lambda: log.info("after the end of logging"))
            from fapilog import configure_logging, log

            configure_logging(sinks=["stdout"])
            atexit.register(lambda: log.info("before the end of logging"))
        """
    )
    assert ended.returncode == 0
    assert [record["event"] for record in parse_all(ended.stdout)] == ["before the end of logging"]
    assert [record["event"] for record in parse_all(ended.stderr)] == ["after the end of logging"]


@pytest.mark.parametrize("configured", ["configure_logging(sinks=['stdout'])", ""])
def test_finalisers_that_log_while_the_interpreter_ends_neither_hang_nor_fail(configured: str) -> None:
    ended = run(
        f"""
            import builtins, sys
            from fapilog import configure_logging, log

            class Last:
                def __init__(self, where):
                    self.where = where

                def __del__(self, log=log):
                    log.info("finalised", where=self.where)

            {configured}
            in_main = Last("main")
            cycle = Last("cycle")
            cycle.itself = cycle
            sys.kept_by_sys = Last("sys")
            builtins.kept = Last("builtins")
        """
    )
    assert ended.returncode == 0
    told = parse_all(ended.stderr) + parse_all(ended.stdout)
    assert {record["event"] for record in told} == {"finalised"}
    assert "builtins" in {record["where"] for record in told}


def test_a_handler_of_somebody_else_for_sigterm_is_left_alone() -> None:
    ended = run(
        """
            import os, signal, sys
            import fapilog

            signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
            fapilog.configure_logging(sinks=["stdout"])
            fapilog.log.info("delivered")
            os.kill(os.getpid(), signal.SIGTERM)
        """
    )
    assert (ended.returncode, len(parse_all(ended.stdout)), ended.stderr) == (9, 1, b"")


def test_a_second_sigterm_ends_the_process_without_waiting() -> None:
    with start(
        """
            import signal, threading
            import fapilog

            class Hanging:
                def write(self, batch):
                    print("hanging", flush=True)
                    threading.Event().wait()
                def close(self): pass

            fapilog.configure_logging(sinks=[Hanging()], shutdown_timeout_seconds=60)
            fapilog.log.info("stuck")
            end = fapilog.runtime._state.runtime.worker.close
            fapilog.runtime._state.runtime.worker.close = lambda timeout: (print("draining", flush=True), end(timeout))
            threading.Event().wait()
        """
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"hanging\n"
        program.send_signal(signal.SIGTERM)
        assert program.stdout.readline() == b"draining\n"
        program.send_signal(signal.SIGTERM)
        assert program.wait(10) == -signal.SIGTERM


def test_a_forked_child_and_its_parent_each_deliver_their_own_once(tmp_path: Path) -> None:
    ended = run(
        """
            import os, sys
            import fapilog

            fapilog.configure_logging(sinks=[{"type": "file", "path": sys.argv[1]}])
            fapilog.log.info("before", by="parent")
            pid = os.fork()
            for number in range(1_000):
                fapilog.log.info("after", by="parent" if pid else "child", number=number)
            if pid:
                os.waitpid(pid, 0)
        """,
        tmp_path / "app.log",
        env={"PYTHONWARNINGS": "default"},
    )
    records = parse_all((tmp_path / "app.log").read_bytes())
    by = {who: [record for record in records if record["by"] == who] for who in ("parent", "child")}
    assert [record["number"] for record in by["child"]] == list(range(1_000))
    assert [record.get("number") for record in by["parent"]] == [None, *range(1_000)]
    instances = {who: {record["id"].partition("-")[0] for record in by[who]} for who in by}
    assert len(instances["parent"]) == len(instances["child"]) == 1
    assert instances["parent"] != instances["child"]
    assert {record["pid"] for record in by["parent"]} != {record["pid"] for record in by["child"]}
    assert by["child"][0]["id"].endswith("-1")
    assert ended.returncode == 0


def test_forking_while_four_threads_log_never_wedges_a_child(tmp_path: Path) -> None:
    ended = run(
        """
            import os, signal, sys, threading, warnings
            import fapilog

            warnings.simplefilter("ignore")  # Python 3.12 warns of fork beside threads
            fapilog.configure_logging(sinks=[{"type": "file", "path": sys.argv[1]}])
            stop = threading.Event()

            def work():
                while not stop.wait(0.0001):
                    fapilog.log.info("busy", text="x" * 200)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for generation in range(30):
                pid = os.fork()
                if not pid:
                    signal.alarm(10)  # ends a child that is stuck
                    fapilog.log.info("child", generation=generation)
                    sys.exit(0)
                status = os.waitpid(pid, 0)[1]
                assert status == 0, f"child {generation} ended with {status}"
            stop.set()
        """,
        tmp_path / "app.log",
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    records = parse_all((tmp_path / "app.log").read_bytes())
    assert sorted(record["generation"] for record in records if record["event"] == "child") == list(range(30))
    ids = [record["id"] for record in records]
    assert len(set(ids)) == len(ids)
    assert len({one.partition("-")[0] for one in ids}) == 31


def test_a_grandchild_has_an_instance_of_its_own(tmp_path: Path) -> None:
    ended = run(
        """
            import os, sys
            import fapilog

            fapilog.configure_logging(sinks=[{"type": "file", "path": sys.argv[1]}])
            for depth in range(3):
                fapilog.log.info("here", depth=depth)
                if pid := os.fork():
                    os.waitpid(pid, 0)
                    break
        """,
        tmp_path / "app.log",
        env={"PYTHONWARNINGS": "default"},
    )
    records = parse_all((tmp_path / "app.log").read_bytes())
    assert sorted(record["depth"] for record in records) == [0, 1, 2]
    assert len({record["id"].partition("-")[0] for record in records}) == 3
    assert ended.returncode == 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_multiprocessing_delivers_what_it_logged(tmp_path: Path, method: str) -> None:
    script = tmp_path / "pool.py"
    script.write_text(
        textwrap.dedent("""
            import multiprocessing, sys
            import fapilog

            def work(path):
                if multiprocessing.get_start_method() == "spawn":
                    fapilog.configure_logging(sinks=[{"type": "file", "path": path}])
                for number in range(500):
                    fapilog.log.info("from a child", number=number)

            if __name__ == "__main__":
                multiprocessing.set_start_method(sys.argv[2])
                fapilog.configure_logging(sinks=[{"type": "file", "path": sys.argv[1]}])
                fapilog.log.info("from the parent")
                child = multiprocessing.Process(target=work, args=(sys.argv[1],))
                child.start()
                child.join()
                assert child.exitcode == 0
        """)
    )
    ended = subprocess.run(
        [sys.executable, script, tmp_path / "app.log", method],
        env=environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    records = parse_all((tmp_path / "app.log").read_bytes())
    assert [record["number"] for record in records if record["event"] == "from a child"] == list(range(500))
    assert len(records) == 501


def test_a_fork_beside_early_records_leaves_them_to_the_parent() -> None:
    ended = run(
        """
            import os
            import fapilog

            fapilog.log.info("early")
            if pid := os.fork():
                os.waitpid(pid, 0)
            else:
                fapilog.log.info("child")
        """,
        env={"PYTHONWARNINGS": "default"},
    )
    assert sorted(record["event"] for record in parse_all(ended.stderr)) == ["child", "early"]


def test_importing_fapilog_starts_nothing_and_loads_no_more_than_it_needs() -> None:
    ended = run(
        """
            import os, sys, threading

            files = set(os.listdir("/proc/self/fd"))
            import fapilog

            assert set(os.listdir("/proc/self/fd")) == files
            assert threading.active_count() == 1
            loaded = {"duckdb", "fastapi", "httpx", "numpy", "opentelemetry"} & set(sys.modules)
            assert not loaded, loaded
        """
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
