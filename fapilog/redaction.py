"""What redaction would take out of an event, and why.

>>> from fapilog import redaction
>>> [(each.path, each.rule) for each in redaction.explain({"user": "ann", "password": "x"})]
[('password', 'field:password')]
"""

from collections.abc import Mapping
from typing import Any

from fapilog.encoding import plain_fields
from fapilog.processors.redact import Finding, Redact
from fapilog.recorder import slot

__all__ = ["Finding", "explain"]


def explain(event: Mapping[str, Any] | str, redact: Redact | None = None) -> list[Finding]:
    """Say what would be taken out of an event, where, by which rule, and how sure the rule is.

    Args:
        event: The fields of a record, whatever their values, or the text of an event alone.
        redact: What redacts; None: as logging is configured now.

    Returns:
        One finding for each secret, in order. None holds a value, and nothing is counted.
    """
    fields = {"event": event} if isinstance(event, str) else event
    return (redact or slot.recorder.redactor).explain(plain_fields(fields))
