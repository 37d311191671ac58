"""Where records end: one file, one class, one far end."""
