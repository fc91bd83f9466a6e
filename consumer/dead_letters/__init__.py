"""Dead letters after they were stored: looked at, put back, exported (`docs/contract.md`, `dead-letters`)."""
