"""What Loki's answer to a push means for each record of it.

=============================================== ==================================================================
answer                                          so that
=============================================== ==================================================================
204                                             all are stored
400, a timestamp too old, too new or too far    the others are stored; these are worked out from the message, and are
behind                                          rejected
400, a line longer than Loki's limit            these are cut to its limit, as all later ones are, and all sent again
400, structured metadata is disallowed          sent again without, as all later ones are
400, about the body as a whole                  kept, tried rarely: a proxy, or no Loki
any other 400                                   nothing may be stored: split until what is refused is alone
429, active streams                             the streams there are have their records; the others go to one stream
                                                that stands for the rest, or are kept if Loki does not take it either
429, a push above the rate                      split
any other 429                                   tried again
260, ingestion is blocked                       kept, tried rarely
all else                                        as `fapilog.transport.answer` says; of 2xx only 204 is a success
=============================================== ==================================================================

Loki keeps an entry once that it is sent twice with the same time, line and metadata; so what is in doubt is sent again.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, TypeAlias

from fapilog.errors import BatchTooLargeError, MisconfiguredError, RetryableError
from fapilog.loki.push import Entry, Push, size_of
from fapilog.loki.streams import Stream
from fapilog.transport.answer import Answer

SUCCESS: Final = (204,)
BLOCKED: Final = 260

_SECOND_NS: Final = 1_000_000_000
_TIME: Final = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d))"
_RATE: Final = re.compile(r"ingestion rate limit exceeded .*?limit: (\d+) bytes/sec", re.IGNORECASE)
_STREAMS: Final = re.compile(r"maximum active stream limit exceeded", re.IGNORECASE)
_WHOLE: Final = re.compile(r"\Asnappy: |\Acontent-encoding .* not supported|\AEOF\s*\Z|proto: ", re.IGNORECASE)
_NO_METADATA: Final = re.compile(r"includes structured metadata, but this feature is disallowed", re.IGNORECASE)
_TOO_LONG: Final = re.compile(r"max entry size '(\d+)' bytes exceeded", re.IGNORECASE)
_TOO_OLD: Final = re.compile(rf"has timestamp too old: {_TIME}, oldest acceptable timestamp is: {_TIME}")
_TOO_NEW: Final = re.compile(rf"has timestamp too new: {_TIME}")
_AGE: Final = re.compile(
    rf"\A\d+ errors?(?: like)?: |entry for stream '\{{.*?\}}' has timestamp too "
    rf"(?:old: {_TIME}, oldest acceptable timestamp is: {_TIME}|new: {_TIME})"
)
_BEHIND: Final = re.compile(r"entry too far behind|out of order", re.IGNORECASE)
_IGNORED: Final = re.compile(r"total ignored: (\d+) out of (\d+) for stream")

Kind: TypeAlias = Literal["stored", "partly", "too_long", "no_metadata", "too_many_streams"]


@dataclass(frozen=True)
class Reading:
    """What became of a push."""

    kind: Kind

    refused: frozenset[int] = frozenset()
    """Positions of what Loki will never take."""

    doubtful: list[Push] = field(default_factory=list)
    """What may or may not be stored, in parts to be sent again one by one."""

    by_age: list[tuple[Stream, Entry]] = field(default_factory=list)
    """What else may be stored or not, in an order in which everything before one that is refused is refused too."""

    max_line_bytes: int = 0
    """How long Loki lets a line be, if one was longer."""


def read(answer: Answer, push: Push) -> Reading:
    """Tell what *answer* means for *push*.

    Raises:
        DeliveryError: As the table above says.
    """
    if answer.status == BLOCKED:
        raise MisconfiguredError(f"{answer.origin} answered 260: it blocks what this tenant sends")
    said = answer.body.decode("utf-8", "replace")
    if answer.status == 429:
        return _limited(answer, said, push)
    if answer.status != 400:
        answer.check(SUCCESS)
        return Reading("stored")
    if _WHOLE.search(said):
        raise MisconfiguredError(f"{answer.origin} answered 400: it cannot read a push, whatever is in it")
    if _NO_METADATA.search(said):
        return Reading("no_metadata")
    found = _TOO_LONG.search(said)
    if found:
        return Reading("too_long", max_line_bytes=int(found[1]))
    return _refused(said, push)


def _limited(answer: Answer, said: str, push: Push) -> Reading:
    if _STREAMS.search(said):
        return Reading("too_many_streams", doubtful=_parts(push))
    rate = _RATE.search(said)
    if rate and size_of(push) > int(rate[1]) and sum(map(len, push.values())) > 1:
        raise BatchTooLargeError(f"{answer.origin} answered 429 to a push larger than what it takes in a second")
    raise RetryableError(
        f"{answer.origin} answered 429: " + ("its rate limit is reached" if rate else "it is sent too much"),
        retry_after_seconds=answer.retry_after_seconds,
        ambiguous=not rate,  # a limit of one stream lets a part of it pass
    )


def _refused(said: str, push: Push) -> Reading:
    """Work out who was refused by a 400, as far as the message tells; the rest of those in doubt is sent again."""
    entries = [entry for stream in push.values() for entry in stream]
    if len(entries) == 1:
        return Reading("partly", frozenset({entries[0].position}))
    too_old = [_ns(found[2]) for found in _TOO_OLD.finditer(said)]
    too_new = [_ns(found[1]) for found in _TOO_NEW.finditer(said)]
    if _BEHIND.search(said) and not too_old and not too_new:
        return _behind(said, push)
    if bool(too_old) == bool(too_new) or _AGE.sub("", said).strip("; \n"):  # for something else, or for two reasons
        return Reading("partly", doubtful=_parts(push))
    ordered = sorted(
        [(stream, entry) for stream, each in push.items() for entry in each], key=lambda item: item[1].timestamp_ns
    )
    if too_old:  # all before the oldest that is acceptable, which is said without the fraction of its second
        limit = min(too_old)
        refused = [entry.position for entry in entries if entry.timestamp_ns < limit]
        doubtful = [item for item in ordered if limit <= item[1].timestamp_ns < limit + 2 * _SECOND_NS]
    else:  # what is newer than one that is too new is too; of older ones nothing is known
        limit = min(too_new) + _SECOND_NS
        refused = [entry.position for entry in entries if entry.timestamp_ns >= limit]
        doubtful = [item for item in reversed(ordered) if item[1].timestamp_ns < limit]
    return Reading("partly", frozenset(refused), by_age=doubtful)


def _behind(said: str, push: Push) -> Reading:
    """Of one stream Loki says how many it has ignored: the oldest. Of several it speaks of one only."""
    found = _IGNORED.search(said)
    if len(push) == 1 and found:
        ((_, entries),) = push.items()
        if int(found[2]) == len(entries):
            oldest = sorted(entries, key=lambda entry: entry.timestamp_ns)[: int(found[1])]
            return Reading("partly", frozenset(entry.position for entry in oldest))
    return Reading("partly", doubtful=_parts(push))


def _parts(push: Push) -> list[Push]:
    """Take a push apart: into its streams; one stream into an older and a newer half, as refusals go by age."""
    if len(push) > 1:
        return [{stream: entries} for stream, entries in push.items()]
    ((stream, entries),) = push.items()
    if len(entries) == 1:
        return [push]
    oldest = sorted(entries, key=lambda entry: entry.timestamp_ns)
    middle = len(oldest) // 2
    return [{stream: oldest[:middle]}, {stream: oldest[middle:]}]


def _ns(timestamp: str) -> int:
    return int(datetime.fromisoformat(timestamp).timestamp()) * _SECOND_NS
