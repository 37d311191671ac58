"""Run the command `fapilog` as ``python -m fapilog.cli``."""

import sys

from fapilog.cli import main

sys.exit(main())
