import pytest

from fapilog.errors import ConfigurationError
from fapilog.plugins import parse_sink


@pytest.mark.parametrize("uri", ["loki://[::1", "loki://host?label=a&label.app=b"])
def test_a_uri_that_cannot_be_read_is_a_configuration_error(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="the URI of a sink"):
        parse_sink(uri)
