"""A sync request for every user whom Sesamy knows (`docs/contract.md`, `backfill`)."""
