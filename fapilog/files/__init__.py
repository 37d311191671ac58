"""Append-only files: how they are named, locked, closed and repaired."""
