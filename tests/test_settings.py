import traceback
from typing import Any

import pytest

from fapilog import LoggingSettings, configure_logging
from fapilog.errors import ConfigurationError
from fapilog.plugins import unmasked


def test_options_in_a_settings_object_win_over_the_environment_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAPILOG_FILE__PATH", "environment.log")
    settings = LoggingSettings(sinks=["file"], file={"path": "keyword.log"})  # type: ignore[call-arg]
    with configure_logging(settings) as handle:
        assert unmasked(handle.settings.sink_options)["file"]["path"] == "keyword.log"


def test_options_given_to_configure_logging_are_added_to_those_in_a_settings_object() -> None:
    settings = LoggingSettings(sinks=["file"], file={"path": "a.log", "level": "error"})  # type: ignore[call-arg]
    with configure_logging(settings, file={"level": "debug"}) as handle:
        assert unmasked(handle.settings.sink_options) == {"file": {"path": "a.log", "level": "debug"}}


@pytest.mark.parametrize("variable", ["FAPILOG_LEVEL__X", "FAPILOG_SINK_OPTIONS__X"])
def test_an_option_of_what_is_no_sink_is_said_to_be_no_setting(
    variable: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAPILOG_LEVEL", "debug")
    monkeypatch.setenv(variable, "1")
    assert LoggingSettings().level == "debug"
    assert f"{variable} is not a setting" in capfd.readouterr().err


def test_an_option_inside_one_that_has_a_value_is_said_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAPILOG_LOKI__LABEL", "x")
    monkeypatch.setenv("FAPILOG_LOKI__LABEL__APP", "shop")
    assert unmasked(LoggingSettings().sink_options) == {"loki": {"label": "x"}}
    assert "FAPILOG_LOKI__LABEL__APP is an option inside one that has a value" in capfd.readouterr().err


CANARY = "canary-5f2a"
WITH_SECRETS: list[dict[str, Any]] = [
    {"sinks": [f"loki://user:{CANARY}@host:3100/?token={CANARY}"]},
    {"sinks": f"loki://user:{CANARY}@host:3100"},
    {"sinks": [{"type": "loki", "token": CANARY}]},
    {"sinks": [{"type": "loki", "headers": {"authorization": CANARY}}]},
    {"sinks": [{"type": "loki", "keys": [CANARY, {"inner": CANARY}]}]},
    {"sinks": [{"type": "loki", "key": CANARY.encode()}]},
    {"loki": {"token": CANARY}},
    {"loki": {"nested": {"tokens": [CANARY]}}},
    {"sink_options": {"loki": {"token": CANARY}}},
]


@pytest.mark.parametrize("given", WITH_SECRETS)
def test_no_way_of_showing_settings_shows_a_secret(given: dict[str, Any]) -> None:
    settings = LoggingSettings(**given)
    shown = [repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json()]
    assert [text for text in shown if CANARY in text] == []


@pytest.mark.parametrize("given", WITH_SECRETS)
def test_a_secret_is_what_it_was_when_it_is_unmasked(given: dict[str, Any]) -> None:
    settings = LoggingSettings(**given)
    assert CANARY in repr(unmasked(settings.sink_options)) + repr([unmasked(sink) for sink in settings.sinks])


@pytest.mark.parametrize("given", [*WITH_SECRETS[:4], {"sinks": [f"loki://user:{CANARY}@ho\u2100st"]}])
def test_an_error_about_a_sink_shows_no_secret(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure_logging(**given)
    assert CANARY not in repr(caught.value) + "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__suppress_context__ or caught.value.__cause__ is caught.value.__context__ is None


def test_a_secret_in_the_environment_is_shown_neither_by_settings_nor_by_an_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAPILOG_FILE__TOKEN", CANARY)
    assert CANARY not in repr(LoggingSettings()) + LoggingSettings().model_dump_json()
    with pytest.raises(ConfigurationError, match="no option is called 'token'") as caught:
        configure_logging(sinks=["file"])
    assert CANARY not in str(caught.value) + capfd.readouterr().err
