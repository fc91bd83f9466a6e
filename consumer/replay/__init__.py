"""Recorded events, moved: from a topic or an NDJSON file to a topic or a file (`docs/contract.md`, `replay`)."""
