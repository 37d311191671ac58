import pytest

from fapilog import log
from fapilog.testing import capture


def test_an_event_that_is_a_dict_becomes_text_without_its_secrets() -> None:
    with capture() as captured:
        log.info({"user": "ann", "password": "canary"})
        assert captured.events == ["{'user': 'ann', 'password': 'REDACTED'}"]


@pytest.mark.parametrize("name", ["event", "level", "service", "id", "trace_id", "exception"])
def test_a_reserved_name_is_kept_beside_a_field_of_the_name_it_gets(name: str) -> None:
    with capture() as captured:
        log.info("first", **{name: "a", f"{name}_": "b"}, exc_info=ValueError())
        log.info("last", **{f"{name}_": "b", name: "a"}, exc_info=ValueError())
        for event in ("first", "last"):
            record = captured.find(event=event)
            assert (record[f"{name}__"], record[f"{name}_"]) == ("a", "b")
