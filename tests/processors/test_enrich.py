import subprocess
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import fapilog
import fapilog.testing
from fapilog import clear_enrichers, configure_logging, get_logger, log, register_enricher
from fapilog.errors import ConfigurationError
from fapilog.processors.enrich import DEFAULT
from fapilog.testing import capture
from tests.programs import command, environment, parse_all, run


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    clear_enrichers()


def logged(event: str = "placed", /, enrich: Any = (), **fields: Any) -> dict[str, Any]:
    """Log one record and return it."""
    with capture(enrich=list(enrich)) as captured:
        log.info(event, **fields)
        return captured.records[0]


def test_the_default_ones_are_those_of_a_line() -> None:
    with capture(service="shop", env="test", version="1.2") as captured:
        log.info("placed")
        (record,) = captured.records
    assert list(record) == ["timestamp", "level", "event", "logger", "service", "env", "version", "host", "pid", "id"]
    assert DEFAULT == ("service", "env", "version", "host")


@pytest.mark.parametrize("name", DEFAULT)
def test_each_default_one_can_be_turned_off(name: str) -> None:
    with capture(service="shop", env="test", version="1.2", enrich=f"-{name}") as captured:
        log.info("placed")
        (record,) = captured.records
    assert set(DEFAULT) - set(record) == {name}


def test_the_variable_turns_them_on_and_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAPILOG_ENRICH", "Thread, -host")
    with capture() as captured:
        log.info("placed")
        (record,) = captured.records
    assert record["thread_name"] == "MainThread"
    assert "host" not in record


def test_what_is_registered_after_it_was_turned_off_is_off(capfd: pytest.CaptureFixture[str]) -> None:
    with capture(enrich=["-tenant", "-kubernets"]) as captured:
        register_enricher(lambda: {"tenant": "t", "more": 1}, "tenant")
        log.info("x")
        assert not {"tenant", "more"} & set(captured.records[0])
    complaints = capfd.readouterr().err
    assert "turns off 'kubernets', and there is no such enricher yet; did you mean 'kubernetes'?" in complaints
    assert "tenant" not in complaints


@pytest.mark.parametrize("name", ["-x", "a,b", " x", " "])
def test_a_name_that_no_setting_could_say_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name!r} cannot be the name of an enricher: FAPILOG_ENRICH parts"):
        register_enricher(lambda: None, name)


def test_a_name_that_is_none_is_an_error_that_lists_those_that_are() -> None:
    register_enricher(lambda: None, "shop")
    with pytest.raises(ConfigurationError) as error:
        configure_logging(sinks=[], enrich=["kubernets"])
    assert "known: callsite, container, env, git, host, kubernetes, platform, process, python, " in str(error.value)
    assert "resources, service, shop, task, thread, user, version; did you mean 'kubernetes'?" in str(error.value)


def test_the_doctor_says_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from fapilog.doctor import examine

    monkeypatch.setenv("FAPILOG_ENRICH", "tread")
    report, fine = examine()
    assert not fine
    assert "no enricher is called 'tread'" in report


def test_a_registered_function_adds_its_fields_at_once_and_until_it_is_forgotten() -> None:
    with capture() as captured:
        log.info("before")
        register_enricher(lambda: {"region": "west", "shard": 3}, "place")
        log.info("during")
        clear_enrichers()
        log.info("after")
        before, during, after = captured.records
    assert (during["region"], during["shard"]) == ("west", 3)
    assert "region" not in before
    assert "region" not in after


def test_it_can_be_a_decorator_and_returns_the_function() -> None:
    @register_enricher
    def region() -> dict[str, str]:
        return {"region": "west"}

    assert region() == {"region": "west"}
    assert logged()["region"] == "west"
    assert "region" not in logged(enrich=["-region"])


def test_the_same_name_again_replaces_it() -> None:
    register_enricher(lambda: {"a": 1}, "shop")
    register_enricher(lambda: {"b": 2}, "shop")
    record = logged()
    assert "a" not in record
    assert record["b"] == 2


def test_a_processor_of_structlog_adds_the_new_fields_of_what_it_returns() -> None:
    def length(logger: Any, method_name: str, event: dict[str, Any]) -> dict[str, Any]:
        event["seen"] = [logger, method_name, event["event"], event["level"], event["logger"], event["sku"]]
        event["sku"] = "replaced"
        event["event"] = "replaced"
        return event

    register_enricher(length)
    with capture() as captured:
        get_logger("shop").warning("placed", sku="tea")
        (record,) = captured.records
    assert record["seen"] == ["shop", "warning", "placed", "warning", "shop", "tea"]
    assert (record["sku"], record["event"]) == ("tea", "placed")


def test_fields_of_the_record_win() -> None:
    register_enricher(lambda: {"region": "west", "bound": "theirs", "sku": "theirs"}, "shop")
    with capture() as captured, fapilog.bound_context(bound="mine"):
        log.info("placed", sku="tea")
        (record,) = captured.records
    assert (record["region"], record["bound"], record["sku"]) == ("west", "mine", "tea")


def test_of_two_enrichers_the_first_wins() -> None:
    register_enricher(lambda: {"region": "first"}, "one")
    register_enricher(lambda: {"region": "second", "other": 2}, "two")
    record = logged()
    assert (record["region"], record["other"]) == ("first", 2)


@pytest.mark.parametrize("name", ["timestamp", "level", "event", "logger", "id", "service", "env", "host", "pid"])
def test_a_reserved_name_is_kept_beside_the_reserved_field(name: str) -> None:
    register_enricher(lambda: {name: "theirs"}, "shop")
    record = logged()
    assert record[f"{name}_"] == "theirs"
    assert record.get(name) != "theirs"


@pytest.mark.parametrize("name", ["durable", "exc_info", "stack_info"])
def test_a_name_that_asks_for_something_asks_for_nothing(name: str) -> None:
    register_enricher(lambda: {name: True}, "shop")
    record = logged()
    assert record[f"{name}_"] is True
    assert "stack" not in record


def test_what_it_adds_is_made_plain_and_redacted() -> None:
    register_enricher(lambda: {"basket": {"tea": {1}}, "api_key": "hunter2", "nested": {"password": "hunter2"}}, "shop")
    record = logged()
    assert record["basket"] == {"tea": [1]}
    assert (record["api_key"], record["nested"]) == ("REDACTED", {"password": "REDACTED"})


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class HalfMapping(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise LookupError(key)

    def __iter__(self) -> Iterator[str]:
        yield "a"

    def __len__(self) -> int:
        return 1


def raising(error: BaseException) -> Any:
    def enricher() -> dict[str, Any]:
        raise error

    return enricher


@pytest.mark.parametrize(
    ("enricher", "what"),
    [
        (raising(ValueError("no")), "raised ValueError: no"),
        (raising(SystemExit(3)), "raised SystemExit: 3"),
        (raising(UnprintableError()), "raised UnprintableError: <unprintable UnprintableError: RuntimeError>"),
        (lambda: 7, "raised TypeError: returned int, not a dict"),
        (lambda: ["a"], "raised TypeError: returned list, not a dict"),
        (lambda: {7: 1}, "raised TypeError: the name of a field is int, not text"),
        (HalfMapping, "raised LookupError: a"),
        (lambda logger, method_name, event: None, "raised TypeError: returned NoneType, not a dict"),
    ],
)
def test_one_that_fails_costs_its_own_fields_alone(enricher: Any, what: str, capfd: pytest.CaptureFixture[str]) -> None:
    register_enricher(enricher, "broken")
    register_enricher(lambda: {"region": "west"}, "whole")
    with capture() as captured:
        for number in range(3):
            log.info("placed", number=number)
        records = captured.records
        stats = captured.handle.stats()
    assert [record["number"] for record in records] == [0, 1, 2]
    assert {record["_enricher_error"] for record in records} == {f"enricher broken {what}"}
    assert {record["region"] for record in records} == {"west"}
    assert stats.failures == {"enricher": 3}
    assert stats.filtered == {}
    assert capfd.readouterr().err.count("enricher broken") == 1


def test_a_processor_that_fails_is_counted_too() -> None:
    def broken(logger: Any, method_name: str, event: dict[str, Any]) -> dict[str, Any]:
        raise ValueError

    with capture(processors=[broken]) as captured:
        log.info("placed")
        assert len(captured.records) == 1
        assert captured.handle.stats().failures == {"processor": 1}


def test_nothing_to_add_is_no_failure() -> None:
    register_enricher(lambda: None, "shop")
    assert "_enricher_error" not in logged()


def test_one_that_logs_is_not_asked_about_its_own_record() -> None:
    @register_enricher
    def chatty() -> dict[str, Any]:
        log.info("asked")
        return {"chatty": True}

    with capture() as captured:
        log.info("placed")
        records = captured.records
    assert [(record["event"], record.get("chatty")) for record in records] == [("asked", None), ("placed", True)]


def test_each_thread_asks_for_itself() -> None:
    inside, go_on = threading.Event(), threading.Event()

    @register_enricher
    def slow() -> dict[str, Any]:
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            assert go_on.wait(10)
        return {"slow": True}

    with capture() as captured:
        other = threading.Thread(target=log.info, args=("other",))
        other.start()
        assert inside.wait(10)
        log.info("main")
        go_on.set()
        other.join(10)
        assert [record["slow"] for record in captured.records] == [True, True]


async def _coroutine() -> dict[str, Any]:
    return {}


@pytest.mark.parametrize(
    ("function", "name", "why"),
    [
        (7, None, "7 is not an enricher"),
        (_coroutine, None, "is a coroutine function"),
        (lambda a: {}, "one", r"takes \(a\); it must take nothing, or \(logger, method_name, event\)"),
        (dict, "host", "'host' is a built-in enricher"),
        (dict, "thread", "'thread' is a built-in enricher"),
    ],
)
def test_what_cannot_be_one_is_refused(function: Any, name: str | None, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        register_enricher(function, name)


def test_a_function_in_c_without_a_signature_will_do() -> None:
    register_enricher(dict, "nothing")
    assert "_enricher_error" not in logged()


def test_an_access_record_is_enriched_too() -> None:
    import anyio
    import httpx
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    register_enricher(lambda: {"region": "west"}, "place")

    async def hello(_request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/", hello)])

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            await client.get("/")

    with capture(app, enrich=["thread"]) as captured:
        anyio.run(ask)
        access = captured.find(event="request completed")
    assert (access["region"], access["thread_name"], access["status_code"]) == ("west", "MainThread", 200)


def test_static_fields_are_those_of_the_forked_process() -> None:
    ended = run(
        """
        import multiprocessing
        import fapilog

        fapilog.configure_logging(sinks=["stdout"], enrich=["process", "resources"])
        fapilog.register_enricher(lambda: {"registered": True}, "mine")
        fapilog.log.info("parent")

        def work():
            fapilog.register_enricher(lambda: {"later": True}, "later")
            fapilog.log.info("child")

        child = multiprocessing.get_context("fork").Process(target=work, name="Packer-1")
        child.start()
        child.join()
        """,
        env={"PYTHONWARNINGS": "ignore"},
    )
    records = {record["event"]: record for record in parse_all(ended.stdout)}
    assert ended.stderr == b""
    assert records["child"]["process_name"] == "Packer-1"
    assert records["parent"]["process_name"].startswith("python")
    assert records["child"]["pid"] != records["parent"]["pid"]
    assert "later" in records["child"]
    assert all(record["registered"] and record["memory_mb"] > 0 for record in records.values())


def test_a_field_named_like_a_static_one_is_kept_beside_it() -> None:
    with capture(enrich=["process"]) as captured:
        log.info("placed", process_name="mine", n=1)
        log.info("placed", process_name="mine", n=2)
        records = captured.records
    assert {record["process_name_"] for record in records} == {"mine"}
    assert "mine" not in {record["process_name"] for record in records}
    assert logged(process_name="mine")["process_name"] == "mine"


def test_one_that_was_logged_before_the_configuration_too() -> None:
    log.info("early", process_name="mine", nested={"process_name": "inner"})
    log.info("early", n=1)
    with configure_logging(sinks=[collecting := fapilog.testing.CollectingSink()], enrich=["process"]):
        pass
    first, second = collecting.records
    assert first["process_name_"] == "mine"
    assert first["process_name"] == second["process_name"] != "mine"
    assert first["nested"] == {"process_name": "inner"}
    assert second["n"] == 1


def test_psutil_is_asked_for_by_name_where_it_is_missing() -> None:
    program = (
        "import sys; sys.modules['psutil'] = None\n"
        "import fapilog\n"
        "try: fapilog.configure_logging(sinks=[], enrich=['resources'])\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(command(program), env=environment(), capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "the enricher 'resources' needs an extra: pip install 'fapilog[system]'\n"


def test_what_ran_before_runs_again_although_an_enricher_it_named_is_forgotten() -> None:
    register_enricher(lambda: {"region": "west"}, "place")
    with configure_logging(sinks=[fapilog.testing.CollectingSink()], enrich=["-place"]):
        with capture():
            clear_enrichers()
        log.info("after")
