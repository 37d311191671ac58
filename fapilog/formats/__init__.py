"""A record as a person or another system reads it, made in the sink from the canonical line, which stays as it is."""

from fapilog.formats.escaping import escape
from fapilog.formats.named import JSON_LINES, KNOWN, FormatName, Formatter, UserFormat, format_name
from fapilog.formats.pretty import pretty
from fapilog.formats.screen import MIN_WIDTH, Screen, is_terminal

__all__ = [
    "JSON_LINES",
    "KNOWN",
    "MIN_WIDTH",
    "FormatName",
    "Formatter",
    "Screen",
    "UserFormat",
    "escape",
    "format_name",
    "is_terminal",
    "pretty",
]
