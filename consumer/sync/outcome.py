"""What a sync came to."""

from enum import StrEnum


class Outcome(StrEnum):
    """The result of one sync that ended well. The value is the `outcome` of `events_total` in the contract."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    SKIPPED_GUEST = "skipped_guest"
    SKIPPED_NO_EMAIL = "skipped_no_email"
    SKIPPED_UNKNOWN_USER = "skipped_unknown_user"

    @property
    def event_outcome(self) -> str:
        """The label in `events_total`: a write is `synced`, however it was made."""
        return "synced" if self in {Outcome.CREATED, Outcome.UPDATED} else self.value

    @property
    def sync_outcome(self) -> str:
        """The label in `syncs_total`: every skip is `skipped`."""
        return "skipped" if self.value.startswith("skipped_") else self.value
