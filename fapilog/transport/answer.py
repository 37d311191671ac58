"""What the far end said, and what that means for a batch.

===================================== ============================== ==================================================
status                                raised                         so that
===================================== ============================== ==================================================
2xx, or the sink's own list           nothing                        the batch is delivered
2xx that is not in the sink's list    `MisconfiguredError`           kept, tried rarely; perhaps accepted (ambiguous)
408, 425, 429, 503                    `RetryableError`               tried again; ``Retry-After`` is heeded up to 60 s
500, 502, 504, any other 5xx but 501  `RetryableError`, ambiguous    the same: it may have failed after it was stored
401, 403, 407                         `CredentialsError`             kept, tried rarely, until they are mended
413                                   `BatchTooLargeError`           split
3xx, 402, 404, 405, 406, 410, 411,    `MisconfiguredError`           kept, tried rarely: the endpoint or an option is
414, 415, 421, 426, 431, 451, 501                                    wrong, not the records
any other 4xx                         `BatchRejectedError`           split until what is refused is alone
===================================== ============================== ==================================================
"""

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from fapilog.errors import (
    BatchRejectedError,
    BatchTooLargeError,
    CredentialsError,
    MisconfiguredError,
    RetryableError,
)

RETRY_AFTER_MAX_SECONDS: Final = 60.0
_MISCONFIGURED: Final = frozenset({402, 404, 405, 406, 410, 411, 414, 415, 421, 426, 431, 451, 501})


class Answer(NamedTuple):
    """What the far end said."""

    origin: str
    """Who said it, as it may stand in a message."""

    status: int

    retry_after_seconds: float | None = None
    """How long the far end asks to be left alone, clamped to 0…60; None if it does not say, or nothing readable."""

    body: bytes = b""
    """The beginning of what it said, as it was sent. Never to be shown: it may echo what was sent."""

    complete: bool = False
    """Whether that was all of it."""

    def check(self, success_status: Collection[int] | None = None) -> None:
        """Return if the batch is delivered, that is for any 2xx, or for these alone.

        Raises:
            DeliveryError: As the table above says.
        """
        status = self.status
        if status in success_status if success_status is not None else 200 <= status < 300:
            return
        said = f"{self.origin} answered {status}"
        again = self.retry_after_seconds
        if status < 400:
            why = "redirects are not followed; set the endpoint it leads to" if status >= 300 else "not a success here"
            raise MisconfiguredError(
                f"{said}: {why}", retry_after_seconds=again, ambiguous=success_status is not None and status < 300
            )
        if status in (401, 403, 407):
            raise CredentialsError(f"{said}: it does not accept the credentials", retry_after_seconds=again)
        if status in _MISCONFIGURED:
            raise MisconfiguredError(f"{said}: check the endpoint and the options", retry_after_seconds=again)
        if status == 413:
            raise BatchTooLargeError(said)
        if status in (408, 425, 429) or status >= 500:
            ambiguous = status >= 500 and status != 503
            raise RetryableError(said, retry_after_seconds=again, ambiguous=ambiguous)
        raise BatchRejectedError(said)


def retry_after(headers: Mapping[bytes, bytes]) -> float | None:
    """Read ``Retry-After``, seconds or a date, clamped to 0…60; None if it is missing or unreadable.

    A date is taken relative to the answer's own ``Date``, so that two clocks need not agree.
    """
    value = headers.get(b"retry-after", b"").strip().decode("latin-1")
    if re.fullmatch(r"[0-9]{1,12}", value):
        return min(float(value), RETRY_AFTER_MAX_SECONDS)
    until = _date(value)
    if until is None:
        return None
    now = _date(headers.get(b"date", b"").decode("latin-1")) or datetime.now(UTC)
    return min(max(0.0, (until - now).total_seconds()), RETRY_AFTER_MAX_SECONDS)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
