"""How much is tried: little by default, all of it with ``REDACTION_FULL=1`` in the environment."""

import os

import pytest

FULL = os.environ.get("REDACTION_FULL") == "1"


@pytest.fixture
def many() -> int:
    """How many random ids are tried: 1 000 000 with ``REDACTION_FULL=1``."""
    return 1_000_000 if FULL else 16_000


@pytest.fixture
def length() -> int:
    """How long the shorter of two texts is, in characters: the longer is 1 MB with ``REDACTION_FULL=1``."""
    return 100_000 if FULL else 3_000
