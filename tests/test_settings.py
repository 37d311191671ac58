import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fapilog import LoggingSettings, configure_logging
from fapilog.errors import ConfigurationError
from fapilog.plugins import unmasked
from fapilog.settings import OTHER_VARIABLES


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


@pytest.mark.parametrize(
    "given",
    [
        WITH_SECRETS[0],
        *WITH_SECRETS[2:4],
        {"sinks": f"nobody://user:{CANARY}@host:3100"},
        {"sinks": [f"loki://user:{CANARY}@ho\u2100st"]},
        {"sinks": [f"user:{CANARY}@host:3100"]},
    ],
)
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


@pytest.mark.parametrize(
    ("name", "told"),
    [("levell", "did you mean 'level'[?]"), ("zzz", "known: fd, format, width, and of every sink: .*level")],
)
def test_an_option_that_is_none_is_told_with_those_that_every_sink_has(
    name: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"FAPILOG_STDOUT__{name.upper()}", "warning")
    with pytest.raises(ConfigurationError, match=f"no option is called '{name}'; {told}"):
        configure_logging(sinks=["stdout"])


def test_keywords_win_over_the_environment_which_wins_over_the_env_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert LoggingSettings().level == "info"
    (tmp_path / ".env").write_text("FAPILOG_LEVEL=trace\nfapilog_service=file\nOTHER=1\nFAPILOG_LOKI__TOKEN=file\n")
    assert (LoggingSettings().level, LoggingSettings().service) == ("trace", "file")
    monkeypatch.setenv("FAPILOG_LEVEL", "error")
    monkeypatch.setenv("FAPILOG_LOKI__URL", "environment")
    assert LoggingSettings().level == "error"
    assert LoggingSettings(level="debug").level == "debug"
    merged = LoggingSettings(loki={"token": "keyword"})  # type: ignore[call-arg]
    assert unmasked(merged.sink_options) == {"loki": {"token": "keyword", "url": "environment"}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [("INFO", "info"), (" Warn ", "warning"), ("FATAL", "critical"), (10, "debug"), ("35", "warning"), (0, "trace")],
)
def test_a_level_is_a_name_or_a_number_in_any_case(given: Any, expected: str) -> None:
    assert LoggingSettings(level=given).level == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("stdout", ["stdout"]),
        ("stdout, duckdb ,", ["stdout", "duckdb"]),
        ('["stdout", {"type": "file", "path": "a"}]', ["stdout", {"type": "file", "path": "a"}]),
        ('{"type": "stdout"}', [{"type": "stdout"}]),
        ("stdout,file:///var/log/app.log?level=error", ["stdout", "file:///var/log/app.log?level=error"]),
        ("", []),
    ],
)
def test_sinks_are_a_comma_list_a_json_list_or_uris(
    written: str, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAPILOG_SINKS", written)
    assert unmasked(LoggingSettings().sinks) == expected


@pytest.mark.parametrize(
    ("name", "written", "expected"),
    [
        ("JSON_CONSOLE", "Pretty", "pretty"),
        ("QUEUE_OVERFLOW", "DROP_OLDEST", "drop_oldest"),
        ("QUEUE_MAXSIZE", "10", 10),
        ("QUEUE_MAX_BYTES", "65536", 65536),
        ("BLOCK_TIMEOUT_SECONDS", "0.5", 0.5),
        ("SHUTDOWN_TIMEOUT_SECONDS", "0", 0.0),
        ("ACCESS_LOG", "off", False),
        ("REDACT_FIELDS", "iban,pin", ["iban", "pin"]),
        ("REDACT_REPLACEMENT", "***", "***"),
        ("SERVICE", "Shop", "Shop"),
        ("ENV", "test", "test"),
        ("VERSION", "1", "1"),
    ],
)
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_every_setting_is_a_variable_in_any_case(
    name: str, written: str, expected: Any, case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(case(f"FAPILOG_{name}"), written)
    assert getattr(LoggingSettings(), name.lower()) == expected


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"level": "loud"}, "level: got 'loud'; known: trace, debug"),
        ({"sinks": "[stdout"}, "sinks: this looks like JSON but is not"),
        ({"queue_maxsize": 0}, "queue_maxsize: Input should be greater than 0"),
        ({"queue_max_bytes": 1}, "queue_max_bytes: Input should be greater"),
        ({"json_console": "xml"}, "json_console: Input should be 'auto', 'json' or 'pretty'"),
        ({"levle": "info"}, "levle is not a setting; did you mean level?"),
        ({"zzz": 1}, "zzz is not a setting; known: level, sinks"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure_logging(**wrong)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["environment", "file"])
def test_an_unknown_variable_is_a_warning_with_the_nearest_name(
    where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if where == "environment":
        monkeypatch.setenv("FAPILOG_LEVLE", CANARY)
    else:
        (tmp_path / ".env").write_text(f"FAPILOG_LEVLE={CANARY}\n")
    LoggingSettings()
    said = capfd.readouterr().err
    assert said.startswith("fapilog: FAPILOG_LEVLE is not a setting; did you mean FAPILOG_LEVEL? (in the ")
    assert CANARY not in said


@pytest.mark.parametrize("name", sorted(OTHER_VARIABLES))
def test_variables_that_are_read_elsewhere_are_no_mistake(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "1")
    LoggingSettings()
    assert capfd.readouterr().err == ""


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        LoggingSettings().level = "debug"  # type: ignore[misc]


@pytest.mark.parametrize("name", sorted(LoggingSettings.model_fields))
def test_every_setting_is_documented_beside_itself(name: str) -> None:
    assert LoggingSettings.model_fields[name].description
