"""Every exception fapilog raises to its users.

    FapilogError
    ├── ConfigurationError (ValueError)      a setting, an option or an app that cannot be used
    │   ├── UnknownPluginError               no sink or processor of that name
    │   └── SinkStartError                   a sink the user named cannot start
    ├── MissingExtraError (ImportError)      a part that needs a package which is not installed
    ├── RetryableError                       raised by a sink: the same batch may be accepted later
    ├── SinkClosedError                      raised by a sink: it will never accept anything again
    └── StoreError                           the store cannot answer
        ├── StoreNotFoundError (FileNotFoundError)
        └── QueryError (ValueError)          a statement that does not parse or bind

A log call raises none of these.
"""


class FapilogError(Exception):
    """Whatever fapilog raises on purpose."""


class ConfigurationError(FapilogError, ValueError):
    """A setting, an option or an argument cannot be used; what ran before goes on."""


class UnknownPluginError(ConfigurationError):
    """No sink or processor has that name."""


class SinkStartError(ConfigurationError):
    """A sink that was asked for by name cannot start."""


class MissingExtraError(FapilogError, ImportError):
    """A part of fapilog needs a package that is not installed."""

    def __init__(self, part: str, *, extra: str) -> None:
        """Name the *part* as a reader would, such as ``the cloudwatch sink``, and the *extra* that brings it."""
        super().__init__(f"{part} needs an extra: pip install 'fapilog[{extra}]'")


class RetryableError(FapilogError):
    """The far end did not take the batch and may take it later. The pipeline tries again."""


class SinkClosedError(FapilogError):
    """The far end is gone for good, as when the reader of a pipe has exited. The sink is asked no more."""


class StoreError(FapilogError):
    """The store cannot answer."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is no store at that path."""


class QueryError(StoreError, ValueError):
    """A statement does not parse, names what is not there, or failed while it ran."""
