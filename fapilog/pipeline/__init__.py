"""Carry records from the log call to the sinks."""
