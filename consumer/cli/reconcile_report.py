"""What `reconcile` says of itself: while it runs, and in the end."""

from collections.abc import Iterator

from consumer.cli.progress import time_left
from consumer.reconcile.clearing import Cleared, Clearing, Tally
from consumer.reconcile.search import Found, Search


def searching(search: Search, elapsed: float) -> str:
    """Return the line of a search under way, `elapsed` seconds after its start."""
    seen = search.found
    of = f" of {search.total_users:,}" if search.total_users else ""
    text = f"{seen.users:,}{of} users listed, {seen.contacts:,} contacts seen"
    if search.to_look_up:
        left = time_left(search.looked_up / search.to_look_up, elapsed)
        text += f", {search.looked_up:,} of {search.to_look_up:,} looked up, {left}"
    return text


def working(clearing: Clearing, count: int, elapsed: float) -> str:
    """Return the line of a run over so many contacts."""
    done = clearing.tally.done + len(clearing.failed)
    return f"{done:,} of {count:,} contacts, {time_left(done / count, elapsed)}"


def found(seen: Found, *, ended: bool) -> str:
    """Return what a search came to."""
    text = (
        f"{seen.users:,} users at Sesamy; {seen.contacts:,} contacts seen at Mailmojo, {seen.ours:,} of them ours: "
        f"{seen.fine:,} fine, {len(seen.suspects):,} whose user is not listed, or with another address"
    )
    if seen.not_visible:
        text += f"; {seen.not_visible:,} addresses unknown to Mailmojo"
    return text if ended else f"{text}\nstopped while reading: nothing was cleared"


def complaints(seen: Found) -> Iterator[str]:
    """Yield what could not be read, with whole addresses."""
    for reason in seen.cut:
        yield f"{reason}; contacts that were not seen stay as they are (--contacts FILE names them)"
    if seen.unreadable:
        yield f"{seen.unreadable:,} contacts in Mailmojo's lists have no address that can be read"
    for address, error in seen.failed:
        yield f"{address}: {error}"


def preview(cleared: Cleared) -> str:
    """Return what would be cleared, with the whole address."""
    suspect, plan = cleared.suspect, cleared.plan
    why = "the user is gone" if cleared.standing == "gone" else "the user has another address"
    tags = f"; tags removed: {', '.join(plan.tags_removed)}" if plan.tags_removed else ""
    return f"{suspect.address}  {suspect.user_id}: {why}; fields: {', '.join(plan.fields_changed)}{tags}"


def cleared(clearing: Clearing, count: int, *, dry_run: bool, ended: bool) -> str:
    """Return what became of so many suspects."""
    tally = clearing.tally
    text = (
        f"{tally.cleared:,} contacts {'would be ' if dry_run else ''}cleared: {tally.gone:,} whose user is gone, "
        f"{tally.moved:,} whose user has another address"
    )
    rest = {
        "are fine after all": tally.fine,
        "are not that user's any more": tally.changed,
        "are unknown to Mailmojo": tally.not_visible,
        "failed": len(clearing.failed),
        "came back otherwise than they were sent (see the log; MAILMOJO_CLEAR_VALUE?)": tally.differing,
    }
    text += "".join(f"; {number:,} {what}" for what, number in rest.items() if number)
    left = count - tally.done - len(clearing.failed)
    return text if ended else f"{text}\nstopped: {left:,} were not looked at; the same command goes on with them"


def result(seen: Found, clearing: Clearing | None, *, dry_run: bool, ended: bool) -> dict[str, int | bool]:
    """Return the whole of it for a script. In a dry run `gone` and `moved` count what would be cleared."""
    tally = clearing.tally if clearing else Tally()
    return {
        "users": seen.users,
        "contacts": seen.contacts,
        "ours": seen.ours,
        "fine": seen.fine + tally.fine,
        "suspects": len(seen.suspects),
        "gone": tally.gone,
        "moved": tally.moved,
        "cleared": 0 if dry_run else tally.cleared,
        "changed": tally.changed,
        "not_visible": seen.not_visible + tally.not_visible,
        "failed": len(seen.failed) + (len(clearing.failed) if clearing else 0),
        "echo_differs": tally.differing,
        "unreadable": seen.unreadable,
        "whole_list": not seen.cut,
        "complete": ended,
    }
