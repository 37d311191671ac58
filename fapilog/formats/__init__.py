"""A record as a person or another system reads it, made in the sink from the canonical line, which stays as it is."""

from fapilog.formats.named import JSON_LINES, KNOWN, FormatName, Formatter, format_name
from fapilog.formats.pretty import escape, pretty

__all__ = ["JSON_LINES", "KNOWN", "FormatName", "Formatter", "escape", "format_name", "pretty"]
