"""An expected way for a command to fail."""


class Failure(Exception):
    """It failed while running. The text is one line for people: what, where, and the way out; exit code 1."""
