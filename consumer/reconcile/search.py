"""Finds the contacts that do not fit Sesamy's list of users, in as few calls as both APIs allow. Writes nothing."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from msgspec import Struct

from consumer.backfill.pages import UserPages
from consumer.clients.errors import ApiError, Rejected
from consumer.clients.mailmojo import MailmojoClient
from consumer.clients.sesamy import SesamyClient
from consumer.failure import Failure
from consumer.mapping.person import normalised
from consumer.masking import mask_addresses
from consumer.reconcile.contact_pages import ContactPages
from consumer.reconcile.patience import Sleep, each, patiently
from consumer.reconcile.suspects import KnownUsers, Suspect, owner
from consumer.settings import SyncSettings

_List = Literal["subscribers", "unsubscribed"]
_LISTS: tuple[_List, ...] = ("subscribers", "unsubscribed")


class Found(Struct):
    """What was found so far."""

    users: int = 0
    contacts: int = 0
    """Seen in Mailmojo's lists, or named in the file."""
    ours: int = 0
    suspects: list[Suspect] = []
    not_visible: int = 0
    """Named, and unknown to Mailmojo (404)."""
    unreadable: int = 0
    failed: list[tuple[str, ApiError]] = []
    """Addresses whose contact could not be read."""
    known: list[str] = []
    """Some users whom Sesamy lists and can be asked for."""
    cut: list[str] = []
    """Why there may be more contacts than those seen."""

    @property
    def fine(self) -> int:
        """Contacts whose user is listed with their address."""
        return self.ours - len(self.suspects)

    @property
    def alarm(self) -> str | None:
        """Why the suspects look like a mistake of ours rather than like users who left; None when they do not."""
        if self.suspects and not self.users:
            return "Sesamy lists no user at all"
        if 2 * len(self.suspects) > self.ours:
            return f"these are more than half of the {self.ours:,} contacts of ours, by Sesamy's {self.users:,} users"
        return None


class Search:
    """One search. What it has may be looked at while it runs."""

    def __init__(
        self,
        sesamy: SesamyClient,
        mailmojo: MailmojoClient,
        retries: SyncSettings,
        *,
        addresses: Sequence[str] | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Look at the contacts with these addresses (in lower case), or else at those that Mailmojo lists."""
        self.found = Found()
        self.total_users: int | None = None
        self.to_look_up = 0
        self.looked_up = 0
        self._sesamy = sesamy
        self._mailmojo = mailmojo
        self._retries = retries
        self._addresses = addresses
        self._sleep = sleep
        self._users = KnownUsers()
        self._suspects: dict[str, Suspect] = {}

    async def run(self) -> None:
        """Find them.

        Raises:
            ApiError: an API is of no use.
            Failure: Mailmojo does not list contacts, or Sesamy does not know users whom it lists.
        """
        await patiently(self._mailmojo.probe, self._retries, self._sleep)
        async for page in UserPages(self._sesamy, self._retries, self._sleep).after(0):
            self.total_users = page.total
            for user in page.users:
                self._users.add(user)
            self.found.users = self._users.count
            self.found.known = self._users.samples
        if self._addresses is None:
            for which in _LISTS:
                await self._look_up(await self._listed(which))
        else:
            self.found.contacts = len(self._addresses)
            await self._look_up(self._addresses)
        if self.found.suspects and self._users.samples:
            await self._control()

    async def _listed(self, which: _List) -> list[str]:
        """Judge the contacts of a list; return the addresses of those of which it does not tell enough."""
        pages = ContactPages(
            lambda limit, offset: patiently(
                lambda: self._mailmojo.listed(which, limit, offset), self._retries, self._sleep
            ),
            operation=f"list_{which}",
        )
        untold: list[str] = []
        tells = False
        try:
            async for page in pages.all():
                self.found.contacts += len(page)
                for item in page:
                    custom = item.get("custom")
                    if not tells and isinstance(custom, dict) and custom:
                        # One that shows fields says that the list shows them: those before had none.
                        tells = True
                        untold.clear()
                    if (address := _address(item)) is None:
                        self.found.unreadable += 1
                    elif tells:
                        self._judge(address, owner(custom if isinstance(custom, dict) else None))
                    else:
                        untold.append(address)
        except Rejected as error:
            if which == "subscribers":
                raise Failure(
                    f"Mailmojo does not list contacts ({mask_addresses(str(error))}); "
                    "give their addresses with --contacts FILE"
                ) from error
            pages.cut = f"Mailmojo does not list who unsubscribed (HTTP {error.status})"
        if pages.cut:
            self.found.cut.append(f"{which}: {pages.cut}")
        return untold

    async def _look_up(self, addresses: Sequence[str]) -> None:
        async def look_up(address: str) -> None:
            async with self._mailmojo.turn(1) as turn:
                contact = await self._mailmojo.get_contact(turn, address)
            self.looked_up += 1
            if contact is None:
                self.found.not_visible += 1
            else:
                self._judge(address, owner(contact.custom))

        def failed(address: str, error: ApiError) -> None:
            self.looked_up += 1
            self.found.failed.append((address, error))

        self.to_look_up += len(addresses)
        await each(addresses, look_up, failed, self._retries, self._sleep)

    def _judge(self, address: str, user_id: str | None) -> None:
        if user_id is None or address in self._suspects:
            return
        self.found.ours += 1
        if not self._users.has(user_id, address):
            suspect = self._suspects[address] = Suspect(address, user_id)
            self.found.suspects.append(suspect)

    async def _control(self) -> None:
        """Make sure that a user whom Sesamy lists is found by id, since a 404 is taken for a user who is gone."""
        for user_id in self._users.samples:  # any of them may be gone since
            if await patiently(partial(self._is_known, user_id), self._retries, self._sleep):
                return
        raise Failure(
            "Sesamy lists users whom it does not know when it is asked for them one by one, so nobody can be told to "
            "be gone; nothing was cleared"
        )

    async def _is_known(self, user_id: str) -> bool:
        async with self._sesamy.turn() as reads:
            return await self._sesamy.profile(reads, user_id) is not None


def _address(item: dict[str, Any]) -> str | None:
    email = item.get("email")
    return normalised(email) if isinstance(email, str) and "@" in email else None
