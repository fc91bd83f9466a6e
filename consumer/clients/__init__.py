"""The two APIs, as typed calls under a quota."""
