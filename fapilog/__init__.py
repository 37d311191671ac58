"""Production logging for FastAPI: one call, structured records, and a store that SQL can query."""
