from fapilog import log
from fapilog.testing import capture


def test_an_event_that_is_a_dict_becomes_text_without_its_secrets() -> None:
    with capture() as captured:
        log.info({"user": "ann", "password": "canary"})
        assert captured.events == ["{'user': 'ann', 'password': 'REDACTED'}"]
