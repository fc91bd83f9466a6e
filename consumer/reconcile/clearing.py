"""Clears contacts whose user is gone or moved: asks Sesamy once more, reads the contact, and writes, back to back."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from msgspec import Struct

from consumer.clients.errors import ApiError, Unavailable
from consumer.clients.mailmojo import MailmojoClient
from consumer.clients.sesamy import SesamyClient
from consumer.clients.transport import Turn
from consumer.mapping import contact as contacts
from consumer.mapping.contact import Plan
from consumer.mapping.person import normalised
from consumer.mapping.state import Rules
from consumer.reconcile.patience import Sleep, each
from consumer.reconcile.suspects import Standing, Suspect, owner, standing
from consumer.settings import SyncSettings
from consumer.sync.flight import WriteAudit

_log = structlog.get_logger("reconcile")

_PAIR: Final = 2
"""Permits of a contact: its GET and its PATCH."""


class Cleared(Struct, frozen=True):
    """One contact that was cleared, or would or may be."""

    suspect: Suspect
    standing: Standing
    plan: Plan
    differing: tuple[str, ...] = ()
    """What Mailmojo's echo shows otherwise than it was sent."""
    unanswered: str | None = None
    """Why it is not known whether the write was applied; None where it is."""


class Tally(Struct):
    """What became of the suspects."""

    gone: int = 0
    moved: int = 0
    """Cleared, or to be cleared in a dry run, since the user is gone or has another address or none."""
    fine: int = 0
    """Sesamy's answer for the one user says that the contact is right."""
    changed: int = 0
    """The contact is not that user's any more."""
    not_visible: int = 0
    """Mailmojo does not know the contact (404)."""
    differing: int = 0
    """Cleared, and the echo shows something else."""

    @property
    def cleared(self) -> int:
        """Contacts cleared, or to be cleared."""
        return self.gone + self.moved

    @property
    def done(self) -> int:
        """Suspects looked at."""
        return self.cleared + self.fine + self.changed + self.not_visible


class Clearing:
    """One run over the suspects. What it has may be looked at while it runs."""

    def __init__(
        self,
        sesamy: SesamyClient,
        mailmojo: MailmojoClient,
        rules: Rules,
        retries: SyncSettings,
        tell: Callable[[Cleared], None],
        *,
        known: Sequence[str] = (),
        dry_run: bool = False,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Tell `tell` of each contact that is or may be cleared; with `dry_run` that would be, and write nothing.

        `known` are some users whom Sesamy lists: one of them must be found where a suspect's user is not.
        """
        self.tally = Tally()
        self.failed: list[tuple[Suspect, ApiError]] = []
        self._sesamy = sesamy
        self._mailmojo = mailmojo
        self._rules = rules
        self._retries = retries
        self._tell = tell
        self._known = known
        self._dry_run = dry_run
        self._sleep = sleep

    async def run(self, suspects: Sequence[Suspect]) -> None:
        """Clear them one after the other. Raises `ApiError` when an API is of no use; what is done stays done."""

        def failed(suspect: Suspect, error: ApiError) -> None:
            self.failed.append((suspect, error))

        await each(suspects, self._one, failed, self._retries, self._sleep)

    async def _one(self, suspect: Suspect) -> None:
        # The permits come first, so that no quota is waited for between the reads and the write.
        async with self._mailmojo.turn(_PAIR) as turn:
            await turn.ready()
            async with self._sesamy.turn() as reads:
                profile = await self._sesamy.profile(reads, suspect.user_id)
                if profile is None:
                    await self._compare(reads)
            judged = standing(profile, suspect.address)
            if judged == "fine":
                self.tally.fine += 1
                return
            contact = await self._mailmojo.get_contact(turn, suspect.address)
            if contact is None:
                self.tally.not_visible += 1
                return
            if owner(contact.custom) != suspect.user_id or normalised(contact.email) != suspect.address:
                self.tally.changed += 1
                return
            plan = contacts.clear(contact, self._rules)
            if self._dry_run:
                self._count(Cleared(suspect, judged, plan))
            else:
                # A gate that was closed meanwhile is waited for here: the write that follows cannot be interrupted.
                await turn.ready()
                await _to_its_end(self._write(turn, suspect, judged, plan))

    async def _compare(self, reads: Turn) -> None:
        """Make sure that the call that did not find a user finds another one. Raises `Unavailable`."""
        for user_id in self._known:  # any of them may be gone since
            if await self._sesamy.profile(reads, user_id) is not None:
                return
        if self._known:
            raise Unavailable("sesamy", "get_user", 404, "users whom Sesamy lists are not found either")

    async def _write(self, turn: Turn, suspect: Suspect, judged: Standing, plan: Plan) -> None:
        try:
            echo = await self._mailmojo.patch_contact(turn, suspect.address, plan.body)
        except Unavailable as error:
            self._tell(Cleared(suspect, judged, plan, unanswered=str(error)))
            raise
        differing = contacts.echo_differences(plan.body, echo)
        self._count(Cleared(suspect, judged, plan, differing))

    def _count(self, cleared: Cleared) -> None:
        if cleared.standing == "gone":
            self.tally.gone += 1
        else:
            self.tally.moved += 1
        self.tally.differing += bool(cleared.differing)
        self._tell(cleared)


def log_audit(cleared: Cleared) -> None:
    """Log one write as `run` does: whose contact, names of fields, tags; never a value."""
    plan, user_id = cleared.plan, cleared.suspect.user_id
    audit = WriteAudit(
        action="clear", fields=plan.fields_changed, tags_added=plan.tags_added, tags_removed=plan.tags_removed
    )
    about = {"user_id": user_id, **audit.as_fields(), "reason": cleared.standing}
    if cleared.unanswered is not None:
        _log.warning("contact.may_be_written", **about, error=cleared.unanswered)
        return
    _log.info("contact.written", **about)
    if cleared.differing:
        _log.warning("contact.echo_differs", user_id=user_id, fields=cleared.differing)


async def _to_its_end(write: Coroutine[Any, Any, None]) -> None:
    """Await a write that is not cut short by a cancellation: whether it was applied would not be known."""
    task = asyncio.ensure_future(write)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(ApiError):
            await task
        raise
