"""Change or drop an event, in the caller's thread."""
