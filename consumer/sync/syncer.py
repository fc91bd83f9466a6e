"""The use case: read a user's state from Sesamy, work out what the contact should be, write what differs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import structlog
from msgspec import Struct

from consumer.clients.account_fields import AccountFields
from consumer.clients.errors import ApiError
from consumer.clients.mailmojo import MailmojoClient
from consumer.clients.sesamy import SesamyClient
from consumer.clients.transport import Turn
from consumer.clock import suspended_time
from consumer.mapping import contact as contacts
from consumer.mapping import person
from consumer.mapping.contact import Plan, Wanted
from consumer.mapping.fields import USER_ID
from consumer.mapping.instants import UnreadableState
from consumer.mapping.state import Rules, UserState
from consumer.ops.metrics import Metrics
from consumer.sync.controls import GET_CONTACT, GET_USER, Controls
from consumer.sync.evidence import FIELDS, TOKEN, CallDown, Evidence
from consumer.sync.flight import Flight, LoneFlight, WriteAudit
from consumer.sync.locks import AddressLocks
from consumer.sync.outcome import Outcome
from schemas.mailmojo import Contact

_log = structlog.get_logger("sync")

_ROUNDS: Final = 2
"""Write rounds per sync at the most: a contact is added to the list, then checked and patched if need be."""

_STALE: Final = 5.0
"""Seconds between the read of a contact and a write based on it: a write replaces all tags and fields."""

_PAIR: Final = 2
"""Permits of a write round: the GET of the contact and the one write."""


class Preview(Struct, frozen=True):
    """What a sync would do now. `plan` is None where the user is skipped."""

    outcome: Outcome
    plan: Plan | None


class Syncer:
    """Brings one user's contact up to date; safe to call for many users at once."""

    def __init__(
        self,
        sesamy: SesamyClient,
        mailmojo: MailmojoClient,
        account_fields: AccountFields,
        rules: Rules,
        metrics: Metrics,
        *,
        controls: Controls | None = None,
        dry_run: bool = False,
        step: Callable[[str], AbstractContextManager[None]] | None = None,
    ) -> None:
        """Sync with these clients, each of whose requests is bounded in time; with `dry_run`, write nothing.

        `controls` finds other users where this one is not found; by default with evidence of its own. `step` encloses a
        step of a sync by its name, where somebody traces.
        """
        self._sesamy = sesamy
        self._mailmojo = mailmojo
        self._account_fields = account_fields
        self._rules = rules
        self._metrics = metrics
        self._controls = controls or Controls(sesamy, mailmojo, Evidence(Metrics(), clock=suspended_time))
        self._dry_run = dry_run
        self._step = step
        self._addresses = AddressLocks()

    async def sync(self, user_id: str, flight: Flight) -> Outcome:
        """Read the user's state and make the contact show it.

        The whole of it is the unit of retry: a write is never sent again as it was.

        Raises:
            ApiError: a call failed; whose fault that is, the evidence says.
            UnreadableState: Sesamy's answer holds a value that cannot be read.
            LeaseLost: the flight may not write any more.
            CallDown: a call that the sync needs is down, so it was not made.
        """
        wanted = await self._read(user_id, flight)
        if isinstance(wanted, Outcome):
            return wanted
        async with self._addresses.hold(wanted.email):
            outcome = Outcome.UNCHANGED
            if await self._waits_for_no_field(wanted, flight):
                return outcome
            for _ in range(_ROUNDS):
                plan = await self._write_round(user_id, wanted, flight)
                if plan.action == "none":
                    break
                if outcome is not Outcome.CREATED:
                    outcome = Outcome.CREATED if plan.action == "create" else Outcome.UPDATED
                if plan.action != "subscribe" or self._dry_run:
                    break
            return outcome

    async def preview(self, user_id: str) -> Preview:
        """Read and plan, and write nothing. Raises as `sync` does."""
        wanted = await self._read(user_id, LoneFlight())
        if isinstance(wanted, Outcome):
            return Preview(wanted, None)
        async with self._mailmojo.turn(1) as turn:
            contact = await self._mailmojo.get_contact(turn, wanted.email)
        plan = contacts.plan(wanted, contact, self._rules)
        outcome = {"none": Outcome.UNCHANGED, "create": Outcome.CREATED}.get(plan.action, Outcome.UPDATED)
        return Preview(outcome, plan)

    async def _read(self, user_id: str, flight: Flight) -> Wanted | Outcome:
        """Read no more than the result depends on: a guest or a user without e-mail costs one call, or none."""
        if person.is_guest_id(user_id, self._rules.guest_prefixes):
            flight.reading()
            return Outcome.SKIPPED_GUEST
        flight.needs(TOKEN)
        flight.needs(GET_USER)
        async with self._sesamy.turn(flight) as turn:
            flight.reading()
            try:
                if self._step is None:
                    state = await self._read_state(turn, user_id, flight)
                else:
                    with self._step("read"):
                        state = await self._read_state(turn, user_id, flight)
                return state if isinstance(state, Outcome) else contacts.derive(state, self._rules)
            except (ApiError, UnreadableState) as error:
                await flight.compare(turn, error)
                raise

    async def _read_state(self, turn: Turn, user_id: str, flight: Flight) -> UserState | Outcome:
        profile = await self._controls.profile(turn, user_id)
        if profile is None:
            return Outcome.SKIPPED_UNKNOWN_USER
        if person.is_guest(user_id, profile, self._rules.guest_prefixes):
            return Outcome.SKIPPED_GUEST
        if person.address(profile) is None:
            return Outcome.SKIPPED_NO_EMAIL
        flight.needs(GET_CONTACT)  # now it is known that the rest would be read for it
        return await self._sesamy.rest(turn, user_id, profile)

    async def _write_round(self, user_id: str, wanted: Wanted, flight: Flight) -> Plan:
        """Read the contact, plan, and send the one write that the plan takes, one round trip apart."""
        async with self._mailmojo.turn(_PAIR, flight) as turn:
            await turn.ready()
            plan = await self._planned(turn, wanted, flight)
            if plan.action != "none" and not self._dry_run:
                waited = turn.waited
                await turn.ready()
                if turn.waited - waited > _STALE:  # the API asked to wait: others may have changed the contact since
                    plan = await self._planned(turn, wanted, flight)
            if plan.action == "none":
                return plan
            audit = WriteAudit(
                action=plan.action,
                fields=plan.fields_changed,
                tags_added=plan.tags_added,
                tags_removed=plan.tags_removed,
            )
            if self._dry_run:
                _log.info("contact.would_be_written", user_id=user_id, **audit.as_fields())
                return plan
            # The turn asks the flight's lease after every wait, in the same step that sends the request.
            if self._step is None:
                echo = await self._write(turn, wanted, plan)
            else:
                with self._step("write"):
                    echo = await self._write(turn, wanted, plan)
            flight.wrote(audit)
        if plan.conflict:
            self._metrics.contact_conflicts.inc()
            _log.warning("contact.conflict", user_id=user_id, reason="two users with one address; the last event wins")
        if differences := contacts.echo_differences(plan.body, echo):
            self._metrics.echo_mismatches.inc()
            _log.warning("contact.echo_differs", user_id=user_id, fields=differences)
        return plan

    async def _waits_for_no_field(self, wanted: Wanted, flight: Flight) -> bool:
        """See to the account's fields before the first write.

        Where that fails, return whether the contact is right already: then there is nothing to wait for.
        """
        if self._dry_run or self._account_fields.settled:
            return False
        try:
            for call in FIELDS:
                flight.needs(call)
            await self._account_fields.ensure()
        except (ApiError, CallDown):
            async with self._mailmojo.turn(1, flight) as turn:
                if (await self._plan(turn, wanted, flight)).action == "none":
                    return True
            raise
        for call in FIELDS:
            flight.passed(call)
        return False

    async def _planned(self, turn: Turn, wanted: Wanted, flight: Flight) -> Plan:
        if self._step is None:
            return await self._plan(turn, wanted, flight)
        with self._step("plan"):
            return await self._plan(turn, wanted, flight)

    async def _plan(self, turn: Turn, wanted: Wanted, flight: Flight) -> Plan:
        try:
            contact = await self._controls.contact(turn, str(wanted.custom[USER_ID]), wanted.email)
        except ApiError as error:
            await flight.compare(turn, error)
            raise
        return contacts.plan(wanted, contact, self._rules)

    async def _write(self, turn: Turn, wanted: Wanted, plan: Plan) -> Contact:
        # When it does not come back in time, whether it was applied is not known; the next sync reads and sees.
        if plan.action == "patch":
            return await self._mailmojo.patch_contact(turn, wanted.email, plan.body)
        return await self._mailmojo.add_subscriber(turn, plan.body)
