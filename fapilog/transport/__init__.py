"""Bring batches to a far end over HTTP: what every network sink obeys.

One connection, kept open; one deadline for a whole request; certificates verified; no redirect followed, no proxy and
no ``.netrc`` taken from the environment unless asked for; of an answer at most 64 KiB read; no secret in any message.
It stands on httpcore, the engine under httpx: there is then no client that logs each URL, and nothing to switch off.
"""
