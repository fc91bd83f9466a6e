"""One load test: a replay into a topic of its own, instances of the service, the sandbox behind them, and a report."""
