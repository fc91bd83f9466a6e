"""The two expected ways for a command to fail."""


class Failure(Exception):
    """It failed while running. The text is one line for people: what, where, and the way out; exit code 1."""


class SettingsError(Exception):
    """A mistake in the settings. The text is one line: the setting as the user wrote it, and the way out; exit 2."""
