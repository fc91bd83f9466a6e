"""Processes that tests start: they can be killed, frozen and thawed, and none outlives the test run."""

from consumer.loadtest.processes import Child

__all__ = ["Child"]
