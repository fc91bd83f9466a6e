"""What `sync` reports of one user."""

from typing import Final

from msgspec import Struct

_REASONS: Final = {
    "guest": "guest",
    "no_email": "no e-mail address",
    "unknown_user": "unknown to Sesamy",
    "vendor": "another vendor",
    "type": "unknown event type",
    "not_a_contact": "not a contact, and MAILMOJO_CREATE_CONTACTS is false",
}
"""Why a user is skipped: what follows `skipped_` in the outcome, and how people read it."""


class Result(Struct, frozen=True, omit_defaults=True):
    """What became of one user."""

    user_id: str
    status: str
    """`created`, `updated`, `unchanged`, `skipped`, `dead_lettered`; `failed` with --direct and --dry-run; `requested`
    with --no-wait; `waiting` when it was not done in time; `unknown` when it is done and the service did not say how;
    `would_be_created`, `would_be_updated` with --dry-run."""
    reason: str = ""
    """Of a skipped user, as in `skipped_no_email`: `no_email`; of a dead letter: its reason."""
    detail: str = ""
    fields: tuple[str, ...] = ()
    tags_added: tuple[str, ...] = ()
    tags_removed: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The result for people to read."""
        told = [self.user_id, self.status.replace("_", "-" if self.status == "dead_lettered" else " ")]
        if self.reason:
            told.append(_REASONS.get(self.reason, self.reason))
        parts = [": ".join(told)]
        for name, values in (
            ("fields", self.fields),
            ("tags added", self.tags_added),
            ("tags removed", self.tags_removed),
        ):
            if values:
                parts.append(f"{name}: {', '.join(values)}")
        if self.detail:
            parts.append(self.detail)
        return "; ".join(parts)


def outcome_of(outcome: str) -> tuple[str, str]:
    """Return the `status` and the `reason` of a result whose sync came to this outcome."""
    return ("skipped", outcome.removeprefix("skipped_")) if outcome.startswith("skipped_") else (outcome, "")
