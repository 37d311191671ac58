"""What the pipeline does for every sink, and how it is set."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from fapilog.plugins import OPTIONS, find
from fapilog.settings import Level

Filter = Annotated[
    Callable[[dict[str, Any]], bool] | None,
    BeforeValidator(lambda value: find("processor", value) if isinstance(value, str) else value),
]


@dataclass(config=OPTIONS, kw_only=True, frozen=True)
class DeliveryOptions:
    """What the pipeline does for a sink; every sink has these options beside its own."""

    level: Level | None = None
    """The lowest level this sink gets; None means all that the logger keeps."""

    filter: Filter = None
    """A function that is given each record as a dict and says whether this sink gets it, or its ``module:name``."""

    linger_seconds: NonNegativeFloat | None = None
    """How long a record may wait for others to share its batch; None means 0.05, 0.5 for a sink whose `write` is a
    coroutine, and 0 on a terminal."""

    batch_max_records: PositiveInt = 10_000
    """How many records one batch holds at most."""

    batch_max_bytes: PositiveInt | None = None
    """How many bytes one batch holds at most; a single larger record is a batch of its own. None means 256 KiB,
    512 KiB for a file, or an eighth of the size at which it rotates if that is less, 1 MiB for a sink whose `write` is
    a coroutine."""

    write_timeout_seconds: PositiveFloat = 30.0
    """How long one attempt of a sink whose `write` is a coroutine may take, all told."""

    max_retry_attempts: NonNegativeInt | None = None
    """How often the same batch is tried again before it is given up; None means for as long as there is room."""

    circuit_breaker_threshold: PositiveInt = 5
    """After how many failures in a row the sink counts as down, and is only probed now and then."""

    circuit_breaker_timeout_seconds: PositiveFloat = 60.0
    """How long at most a sink that is down is left alone between two probes."""

    spool: bool | None = None
    """Whether records wait on disk while the far end is down; None means yes where `write` is a coroutine."""

    spool_max_bytes: PositiveInt = 256 * 1024 * 1024
    """How many bytes may wait on disk; then the oldest go."""

    spool_max_age_seconds: PositiveFloat = 7 * 86_400.0
    """How long a record may wait on disk."""
