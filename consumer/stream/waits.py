"""How many users wait for what: the page shows it, and `/status`."""

from msgspec import Struct


class Waits(Struct, frozen=True):
    """Users with something to do, by what they wait for."""

    lingering: int
    """For more events, so that one sync answers them all."""
    retrying: int
    """For their next attempt."""
    ready: int
    """For a slot, or for whatever holds consumption."""
    starting: int
    """In flight, for the permits of their first read."""
    reading: int
    """In flight, between their first read and their write."""
    writing: int
    """In flight, for the answer to their write."""
    giving_up: int
    """For their dead letter to be stored."""
    parked: int
    """For a call that is down."""
