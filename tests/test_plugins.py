import pkgutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fapilog import sinks
from fapilog.errors import ConfigurationError, UnknownPluginError
from fapilog.plugins import BUILT_IN, SinkSpec, _place, build_processor, build_sink, find, known, parse_sink
from fapilog.processors.redact import Redact
from fapilog.types import Batch

CANARY = "canary-77aa"


@pytest.mark.parametrize("uri", ["loki://[::1", "loki://host?label=a&label.app=b"])
def test_a_uri_that_cannot_be_read_is_a_configuration_error(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="the URI of a sink"):
        parse_sink(uri)


@pytest.mark.parametrize("spec", ["STDOUT", " Stdout ", {"type": "StdOut"}, "STDOUT://"])
def test_a_built_in_sink_may_be_written_in_any_case(spec: Any) -> None:
    assert parse_sink(spec) == SinkSpec("stdout", "stdout")


class AuditSink:
    """A sink somebody else wrote."""

    def __init__(self, level: int = 0) -> None:
        self.level = level

    def write(self, batch: Batch, /) -> None: ...
    def close(self) -> None: ...


HERE = f"{__name__}:AuditSink"


@pytest.mark.parametrize("name", sorted(BUILT_IN["sink"]))
def test_every_built_in_sink_is_found_by_its_name(name: str) -> None:
    assert callable(find("sink", name))


def test_every_module_among_the_sinks_is_reachable_by_name() -> None:
    modules = {f"fapilog.sinks.{found.name}" for found in pkgutil.iter_modules(sinks.__path__)}
    assert {target.partition(":")[0] for target in BUILT_IN["sink"].values()} == modules


def test_an_unknown_name_lists_those_that_are_known_and_the_nearest() -> None:
    with pytest.raises(UnknownPluginError, match=r"no sink is called 'stdoot'; known: .*file, .*did you mean 'stdout'"):
        find("sink", "stdoot")


@pytest.mark.parametrize("name", ["no.such.module:Sink", f"{__name__}:NoSuchSink", "fapilog.nothing:X"])
def test_a_place_where_there_is_nothing_is_told_with_how_to_write_one(name: str) -> None:
    with pytest.raises(UnknownPluginError, match="write 'module:Class'"):
        find("sink", name)


def test_a_module_that_lacks_something_of_its_own_says_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        find("sink", "needy:Sink")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution with entry points of both kinds."""
    info = tmp_path / "audit-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: audit\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[fapilog.sinks]\naudit = {HERE}\nstdout = {HERE}\nmoved = {__name__}:Gone\ngone = no.such.module:Sink\n"
        "needy = needy:Sink\n[fapilog.processors]\nshout = builtins:dict\n"
    )
    (tmp_path / "needy.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
def test_an_entry_point_is_found_by_its_name_but_takes_no_built_in_one() -> None:
    assert find("sink", "audit") is AuditSink
    assert find("processor", "shout") is dict
    assert find("sink", "stdout") is not AuditSink
    assert known("sink")["audit"] == f"{HERE} (audit)"
    assert known("sink")["stdout"] == BUILT_IN["sink"]["stdout"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["moved", "gone"])
def test_an_entry_point_that_leads_nowhere_names_who_wrote_it(name: str) -> None:
    with pytest.raises(UnknownPluginError, match=f"no sink '{name}' where audit says it is, at '.*': .*no"):
        find("sink", name)


@pytest.mark.usefixtures("installed")
def test_an_entry_point_whose_module_lacks_something_says_what() -> None:
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        find("sink", "needy")


@pytest.mark.parametrize(
    ("spec", "kind", "name", "options"),
    [
        ("stdout", "stdout", "stdout", {}),
        (HERE, HERE, "audit", {}),
        ("file:///var/log/a%20b.log", "file", "file", {"uri": ("file", "", "/var/log/a%20b.log")}),
        ("loki://u:p@h:1/x?label.app=shop&label.env=&name=n", "loki", "n", {
            "uri": ("loki", "u:p@h:1", "/x"), "label": {"app": "shop", "env": ""},
        }),
        ({"type": "file", "name": "mine", "path": "a"}, "file", "mine", {"path": "a"}),
        (SecretStr("stdout://"), "stdout", "stdout", {}),
    ],
)  # fmt: skip
def test_a_sink_is_taken_apart(spec: Any, kind: str, name: str, options: dict[str, Any]) -> None:
    assert parse_sink(spec) == SinkSpec(kind, name, options)


def test_an_object_is_a_sink_by_its_write_and_called_after_itself_or_its_class() -> None:
    sink = AuditSink()
    assert (parse_sink(sink).name, parse_sink(sink).sink) == ("audit", sink)
    sink.name = "mine"  # type: ignore[attr-defined]
    assert parse_sink(sink).name == "mine"


@pytest.mark.parametrize("spec", [5, None, object(), {"path": "x"}, {"type": 5}, AuditSink])
def test_what_is_no_sink_is_refused(spec: Any) -> None:
    with pytest.raises(ConfigurationError, match="sink"):
        parse_sink(spec)


def test_a_spec_shows_neither_options_nor_the_sink() -> None:
    assert repr(parse_sink("loki://user:canary@host")) == "SinkSpec(type='loki', name='loki')"


@pytest.mark.parametrize(
    "uri", ["loki://hunter2#more@loki:3100", "file:///var/log/a#b.log", "loki://loki:3100?token=a#"]
)
def test_a_uri_with_a_number_sign_is_refused_rather_than_cut(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="holds a #; write it as %23") as raised:
        parse_sink(uri)
    assert "hunter2" not in str(raised.value)


def test_an_option_that_comes_again_in_a_uri_has_a_list_of_values() -> None:
    uri = "file:///app.log?rotation=1%20MB&rotation=daily&rotation=monday&compression=gz"
    assert parse_sink(uri).options["rotation"] == ["1 MB", "daily", "monday"]
    assert parse_sink(uri).options["compression"] == "gz"
    spec = parse_sink("loki://loki:3100?label.app=shop&label.app=till")
    with pytest.raises(ConfigurationError, match=r"option 'label\.app': input should be a valid string"):
        build_sink(spec, spec.options)
    with pytest.raises(ConfigurationError, match="more than one name"):
        parse_sink("stdout://?name=a&name=b")


def test_a_uri_s_path_goes_to_the_path_of_the_sink() -> None:
    spec = parse_sink("file:///tmp/a%20b.log")
    built: Any = build_sink(spec, spec.options)
    assert built.path == Path("/tmp/a b.log")


def test_a_uri_s_host_goes_to_the_endpoint_of_the_sink() -> None:
    class Network(AuditSink):
        def __init__(self, endpoint: str) -> None:
            self.endpoint = endpoint

    assert _place(Network, {"uri": ("loki", "h:1", "/x")}) == {"endpoint": "http://h:1/x"}


def test_a_sink_that_takes_no_host_says_so() -> None:
    with pytest.raises(ConfigurationError, match="AuditSink takes no host or path; options: level"):
        build_sink(SinkSpec(HERE, "audit"), {"uri": ("audit", "host", "")})


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("file", {}, "option 'path' is missing"),
        ("file", {"path": "a", "pth": CANARY}, "no option is called 'pth'; did you mean 'path'"),
        ("stdout", {"fd": CANARY}, "option 'fd': input should be"),
        ("stdout", {"zzzz": CANARY}, "no option is called 'zzzz'; known: fd, format"),
        (HERE, {"volume": CANARY}, "unexpected keyword argument 'volume'"),
        ("builtins:dict", {}, "it has no write"),
    ],
)
def test_options_that_do_not_fit_are_told_without_their_value(spec: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_sink(parse_sink(spec), options)
    assert said in str(caught.value)
    assert CANARY not in str(caught.value)


def test_an_object_takes_no_options() -> None:
    with pytest.raises(ConfigurationError, match="was given as an object"):
        build_sink(parse_sink(AuditSink()), {"path": "x"})


def test_a_processor_is_a_callable_a_class_or_a_name() -> None:
    function: Any = len
    assert build_processor(function) is function
    assert isinstance(build_processor(Redact), Redact)
    assert isinstance(build_processor("redact"), Redact)


@pytest.mark.parametrize("spec", [5, None, {}])
def test_what_cannot_be_called_is_no_processor(spec: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not a processor"):
        build_processor(spec)
