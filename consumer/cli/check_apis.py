"""The part of `check` that asks Sesamy and Mailmojo."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from consumer.cli.check import Check
from consumer.clients.account_fields import AccountFields
from consumer.clients.build import open_clients
from consumer.clients.errors import Api, ApiError, Throttled, Unauthorized, UnknownList
from consumer.masking import mask_addresses
from consumer.ops.metrics import Metrics
from consumer.settings import Settings

_CREDENTIALS: Final[dict[Api, str]] = {
    "sesamy": "check SESAMY_CLIENT_ID, SESAMY_CLIENT_SECRET and SESAMY_AUDIENCE",
    "mailmojo": "check MAILMOJO_API_TOKEN",
}
_ADDRESSES: Final[dict[Api, str]] = {
    "sesamy": "check SESAMY_API_URL, SESAMY_TOKEN_URL and the network",
    "mailmojo": "check MAILMOJO_API_URL and the network",
}


async def look_at_apis(settings: Settings, seconds: float) -> list[Check]:
    """Ask both APIs at once; each part takes so many seconds at the most."""
    async with open_clients(settings, Metrics()) as clients:
        clients.set_share(1.0)

        async def mailmojo() -> list[Check]:
            answer = await _answer(
                "Mailmojo", "mailmojo", clients.mailmojo.probe, f"token and list {settings.mailmojo.list_id}", seconds
            )
            if answer.status == "ok":
                return [answer, await _account_fields(clients.account_fields, seconds)]
            return [answer, Check("account fields", "skipped", "needs Mailmojo")]

        sesamy, others = await asyncio.gather(
            _answer("Sesamy", "sesamy", clients.sesamy.probe, "token and API", seconds), mailmojo()
        )
        return [sesamy, *others]


async def _answer(name: str, api: Api, ask: Callable[[], Awaitable[None]], fine: str, seconds: float) -> Check:
    try:
        async with asyncio.timeout(seconds):
            await ask()
    except ApiError as error:
        return Check(name, "failed", f"{mask_addresses(str(error))}; {_way_out(error)}")
    except TimeoutError:
        return Check(name, "failed", f"no answer within {seconds:g} s; {_ADDRESSES[api]}")
    return Check(name, "ok", fine)


def _way_out(error: ApiError) -> str:
    if isinstance(error, Unauthorized):
        return _CREDENTIALS[error.api]
    if isinstance(error, UnknownList):
        return "check MAILMOJO_LIST_ID"
    if isinstance(error, Throttled):
        return "its quota is used up: try again later"
    return _ADDRESSES[error.api]


async def _account_fields(account_fields: AccountFields, seconds: float) -> Check:
    """Say what the first sync would find. Nothing here stops it, unless Mailmojo cannot be asked at all."""
    try:
        async with asyncio.timeout(seconds):
            look = await account_fields.look()
    except ApiError as error:
        return Check("account fields", "failed", f"{mask_addresses(str(error))}; {_way_out(error)}")
    except TimeoutError:
        return Check("account fields", "failed", f"no answer within {seconds:g} s; {_ADDRESSES['mailmojo']}")
    if look.degraded:
        detail = f"no way to list them ({look.degraded}); contacts are synced all the same; see MAILMOJO_FIELDS_PATH"
    elif look.missing:
        detail = f"{len(look.missing)} missing: will be created at the first sync"
    else:
        detail = "complete"
    return Check("account fields", "ok", detail)
