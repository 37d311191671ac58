import pytest

from fapilog import LoggingSettings, configure_logging
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
