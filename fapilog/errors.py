"""Every exception fapilog raises to its users.

    FapilogError
    ├── ConfigurationError (ValueError)      a setting, an option or an app that cannot be used
    │   ├── UnknownPluginError               no sink or processor of that name
    │   └── SinkStartError                   a sink the user named cannot start
    ├── MissingExtraError (ImportError)      a part that needs a package which is not installed
    ├── MissingPackageError (ImportError)    a form of answer that needs a package which is not installed
    ├── DeliveryError                        what a sink raises about a batch
    │   ├── RetryableError                   the same batch may be accepted later
    │   │   └── MisconfiguredError           not before somebody mends an option, there or here
    │   │       └── CredentialsError         the far end does not accept who we are
    │   ├── BatchTooLargeError               a smaller batch may be accepted now
    │   ├── BatchRejectedError               the batch, or a part of it, will never be accepted
    │   └── SinkClosedError                  nothing will ever be accepted again
    ├── DurabilityError                      a record logged with ``durable=True`` is not known to be on disk
    ├── EventSchemaError (ValueError)        under pytest: a record does not fit what was declared, in strict mode
    └── StoreError                           the store cannot answer
        ├── StoreNotFoundError (FileNotFoundError)
        └── QueryError (ValueError)          a statement that does not parse or bind
            ├── QuerySyntaxError             what is wrong in a query, and at which character
            └── QueryLimitError              a query from outside took more than it may

A log call raises none of these but `DurabilityError`, and that only where it was asked for with ``durable=True``; and
in a test `EventSchemaError`, where ``validation_mode`` is strict.
"""

from collections.abc import Collection


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


class MissingPackageError(FapilogError, ImportError):
    """What was asked for is made with a package that is not installed, and that fapilog itself does without."""

    def __init__(self, part: str, *, package: str) -> None:
        """Name the *part* as a reader would, such as ``a page as Arrow``, and the *package* that makes it."""
        super().__init__(f"{part} needs a package: pip install {package}")


class DeliveryError(FapilogError):
    """What a sink says of a batch it did not deliver. Any other exception means that the batch is lost."""


class RetryableError(DeliveryError):
    """The far end did not take the batch and may take it later. The pipeline waits and tries again."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, ambiguous: bool = False) -> None:
        """Say what happened.

        Args:
            message: What to tell on stderr; never a secret.
            retry_after_seconds: How long the far end asks to be left alone; None if it does not say.
            ambiguous: Whether the batch may have been accepted all the same, as when the answer did not come.
        """
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.ambiguous = ambiguous


class MisconfiguredError(RetryableError):
    """The far end takes nothing the way it is asked: a wrong address, a certificate, an option.

    That is no fault of the records. The batch is kept, and the sink tried rarely until somebody has mended it.
    """


class CredentialsError(MisconfiguredError):
    """The far end does not accept our credentials."""


class BatchTooLargeError(DeliveryError):
    """The far end takes nothing this large. The pipeline splits the batch; a single record is lost."""


class BatchRejectedError(DeliveryError):
    """The far end will never accept something in this batch."""

    def __init__(self, message: str, *, rejected: Collection[int] | None = None) -> None:
        """Say what happened.

        Args:
            message: What to tell on stderr; never a secret.
            rejected: Positions in the batch of what was rejected; the rest was delivered. None if it cannot be known
                and nothing was delivered: the pipeline then splits the batch until the culprit is alone.
        """
        super().__init__(message)
        self.rejected = rejected


class SinkClosedError(DeliveryError):
    """The far end is gone for good, as when the reader of a pipe has exited. The sink is asked no more."""


class DurabilityError(FapilogError):
    """A record logged with ``durable=True`` was accepted, but is not known to be on disk."""


class EventSchemaError(FapilogError, ValueError):
    """A record does not fit what was declared of its event. Raised only while pytest runs a test, in strict mode."""


class StoreError(FapilogError):
    """The store cannot answer."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is no store at that path."""


class QueryError(StoreError, ValueError):
    """A statement does not parse, names what is not there, or failed while it ran."""


class QuerySyntaxError(QueryError):
    """A query in fapilog's own language does not parse. Its text ends in the query, with a caret under the place."""

    def __init__(self, message: str, *, query: str, position: int) -> None:
        """Say what is wrong in *query* at the character number *position*, counted from 0."""
        self.message = message
        self.query = query
        self.position = min(max(position, 0), len(query))
        super().__init__(f"{message}, at character {self.position + 1}\n{self._shown()}")

    def _shown(self) -> str:
        """The part of the query around the place, on one line, and under it the caret."""
        begin = max(self.position - 60, 0)
        cut = self.query[begin : self.position + 40]
        line = "".join(character if character.isprintable() else " " for character in cut)
        return f"  {line}\n  {' ' * (self.position - begin)}^"


class QueryLimitError(QueryError):
    """A query in the sandbox took longer, or more memory, than it may, or was cancelled."""
