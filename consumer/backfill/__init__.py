"""A sync request for every user whom Sesamy knows (`contract.md`, `backfill`)."""
