from typing import Any

import pytest

from fapilog.errors import ConfigurationError
from fapilog.plugins import SinkSpec, parse_sink


@pytest.mark.parametrize("uri", ["loki://[::1", "loki://host?label=a&label.app=b"])
def test_a_uri_that_cannot_be_read_is_a_configuration_error(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="the URI of a sink"):
        parse_sink(uri)


@pytest.mark.parametrize("spec", ["STDOUT", " Stdout ", {"type": "StdOut"}, "STDOUT://"])
def test_a_built_in_sink_may_be_written_in_any_case(spec: Any) -> None:
    assert parse_sink(spec) == SinkSpec("stdout", "stdout")
