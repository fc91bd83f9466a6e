"""Dead letters after they were stored: looked at, put back, exported (`contract.md`, `dead-letters`)."""
