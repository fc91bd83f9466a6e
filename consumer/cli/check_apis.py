"""The part of `check` that asks Sesamy and Mailmojo: each kind of read once, judged as the service judges it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from msgspec.structs import replace

from consumer.cli.check_result import Check
from consumer.clients.build import Clients, open_clients
from consumer.clients.errors import Api, ApiError
from consumer.clients.http import SessionClient
from consumer.clients.transport import Turn
from consumer.mapping import contact as contacts
from consumer.mapping import person
from consumer.mapping.instants import UnreadableState
from consumer.mapping.state import UserState
from consumer.masking import mask_addresses
from consumer.ops.metrics import Metrics
from consumer.service import rules_of
from consumer.settings import Settings
from consumer.sync.remedies import remedy
from schemas.sesamy import Contract, Profile, Transaction

T = TypeVar("T")

_ADDRESSES: Final[dict[Api, str]] = {
    "sesamy": "check SESAMY_API_URL, SESAMY_TOKEN_URL and the network",
    "mailmojo": "check MAILMOJO_API_URL and the network",
}
_LISTED: Final = 20
"""Users of Sesamy's list to choose one from that every read is tried with."""

_READS: Final = ("Sesamy profile", "Sesamy contracts", "Sesamy entitlements", "Sesamy transactions")


async def look_at_apis(settings: Settings, seconds: float) -> list[Check]:
    """Ask both APIs; each line takes so many seconds at most."""
    async with open_clients(settings, Metrics(), http=SessionClient) as clients:
        clients.set_share(1.0)
        look = _Look(clients, settings, seconds)
        address = await look.at_sesamy()
        await look.at_mailmojo(address)
        return look.checks


class _Look:
    def __init__(self, clients: Clients, settings: Settings, seconds: float) -> None:
        self.checks: list[Check] = []
        self._sesamy, self._mailmojo, self._fields = clients.sesamy, clients.mailmojo, clients.account_fields
        self._settings = settings
        self._rules = rules_of(settings)
        self._seconds = seconds

    async def at_sesamy(self) -> str | None:
        """Read a listed user as a sync does, and return the address, if it has one."""
        users = await self._try("Sesamy", "sesamy", partial(self._sesamy.users, 0, _LISTED), "token and list of users")
        vendor = self._settings.sesamy.vendor_id
        self._ok("vendor", vendor or "any: events of all vendors are taken; SESAMY_VENDOR_ID narrows that down")
        if users is None:
            self._skip("needs Sesamy", *_READS)
            return None
        user_id = next((user.user_id for user in users.items if user.user_id), None)
        if user_id is None:
            for name in _READS:
                self._ok(name, "not tried: Sesamy lists no user yet")
            return None
        async with self._sesamy.turn() as turn:
            profile = await self._try(_READS[0], "sesamy", partial(self._profile, turn, user_id))
            contracts = partial(self._contracts, turn, user_id, profile)
            await self._try(_READS[1], "sesamy", contracts)
            await self._try(_READS[2], "sesamy", partial(self._sesamy.list_of, turn, "list_entitlements", user_id))
            await self._try(_READS[3], "sesamy", partial(self._transactions, turn, user_id))
        return person.address(profile) if profile else None

    async def at_mailmojo(self, address: str | None) -> None:
        """Find the list, read a contact, and look for the account fields."""
        name = await self._try("Mailmojo", "mailmojo", self._mailmojo.list_name)
        if name is None:
            self._skip("needs Mailmojo", "contact", "account fields")
            return
        list_id = self._settings.mailmojo.list_id
        self.checks[-1] = replace(self.checks[-1], detail=f"token, and list {list_id}{f' ({name})' if name else ''}")
        if address is None:
            self._ok("contact", "not tried: no address of a user is known")
        else:
            await self._try("contact", "mailmojo", partial(self._contact, address))
        await self._try("account fields", "mailmojo", self._account_fields)

    async def _profile(self, turn: Turn, user_id: str) -> Profile:
        profile = await self._sesamy.profile(turn, user_id)
        if profile is None:
            raise ApiError("sesamy", "get_user", 404, "a user whom Sesamy lists is not found by id")
        return profile

    async def _contracts(self, turn: Turn, user_id: str, profile: Profile | None) -> None:
        contracts = await self._sesamy.list_of(turn, "list_contracts", user_id)
        self._derive(user_id, profile, contracts=tuple(it for it in contracts if isinstance(it, Contract)))

    async def _transactions(self, turn: Turn, user_id: str) -> None:
        transactions = await self._sesamy.list_of(turn, "list_transactions", user_id)
        self._derive(user_id, None, transactions=tuple(it for it in transactions if isinstance(it, Transaction)))

    def _derive(
        self,
        user_id: str,
        profile: Profile | None,
        *,
        contracts: tuple[Contract, ...] = (),
        transactions: tuple[Transaction, ...] = (),
    ) -> None:
        """Read the values, too. Raises `UnreadableState`."""
        there = profile or Profile(id=user_id)
        if person.address(there) is None:
            there = replace(there, email="a@example.com")
        state = UserState(user_id=user_id, profile=there, contracts=contracts, transactions=transactions)
        contacts.derive(state, self._rules)

    async def _contact(self, address: str) -> str:
        async with self._mailmojo.turn(1) as turn:
            contact = await self._mailmojo.get_contact(turn, address)
        return "the contact of a listed user can be read" if contact else "a listed user has no contact yet"

    async def _account_fields(self) -> str:
        """Say what the first sync would find. Nothing here stops it, unless Mailmojo cannot be asked at all."""
        look = await self._fields.look()
        if look.degraded:
            return f"no way to list them ({look.degraded}); contacts are synced all the same; see MAILMOJO_FIELDS_PATH"
        return f"{len(look.missing)} missing: will be created at the first sync" if look.missing else "complete"

    async def _try(self, name: str, api: Api, ask: Callable[[], Awaitable[T]], fine: str = "can be read") -> T | None:
        """Add a line for one call, and return what came of it; None when it failed."""
        try:
            async with asyncio.timeout(self._seconds):
                found = await ask()
        except ApiError as error:
            self._failed(name, f"{mask_addresses(str(error))}; {remedy(error)}")
        except UnreadableState as error:
            self._failed(name, f"{error}: every sync of such a user fails; report it, or ask Sesamy what changed")
        except TimeoutError:
            self._failed(name, f"no answer within {self._seconds:g} s; {_ADDRESSES[api]}")
        else:
            self._ok(name, found if isinstance(found, str) and found else fine)
            return found
        return None

    def _ok(self, name: str, detail: str) -> None:
        self.checks.append(Check(name, "ok", detail))

    def _failed(self, name: str, detail: str) -> None:
        self.checks.append(Check(name, "failed", detail))

    def _skip(self, why: str, *names: str) -> None:
        self.checks += [Check(name, "skipped", why) for name in names]
