"""Measure fapilog beside other loggers. See README.md."""
