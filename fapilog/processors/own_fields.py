"""The fields that fapilog itself puts into records, as redaction knows them."""

import re
from typing import Final

from fapilog.types import RESERVED_FIELDS

OURS: Final = RESERVED_FIELDS | {
    *("exception", "stack", "_truncated", "_coerced", "_more_keys", "_repeated", "_throttled"),
    *("_processor_error", "_enricher_error", "_filter_error", "_schema_error", "_schema_errors"),
    *("_level_error", "_format_error"),
}
"""Fields that an allow-list keeps."""

IDS: Final = {
    "timestamp": re.compile(r"[0-9T:.\-]{20,30}Z"),
    "level": re.compile(r"[a-z]{4,8}"),
    "id": re.compile(r"[0-9A-Za-z\-]{1,64}"),
    "trace_id": re.compile(r"[0-9a-f]{32}"),
    "span_id": re.compile(r"[0-9a-f]{16}"),
    "parent_span_id": re.compile(r"[0-9a-f]{16}"),
    "request_id": re.compile(r"[A-Za-z0-9._\-]{1,128}"),
    "trace_flags": re.compile(r"[0-9a-f]{2}"),
}
"""What fapilog makes itself, and never touches while it looks like it."""
