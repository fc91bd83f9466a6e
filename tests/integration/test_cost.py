"""What a sync costs: the table of `docs/performance.md`, line by line, by the fakes' request log."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from consumer.sandbox.contacts import SESAMY_FIELDS
from consumer.sandbox.population import Seed
from tests.integration.oracle import address
from tests.integration.stage import EVENT_TYPES, NewStage, Stage, event, stop
from tests.kafka_client import Message

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
ROW = re.compile(r"^\| ([^|]+?) \| (\d+) \| (\d+) \|", re.MULTILINE)
USER = "email|one"
SYNC = "sesamy-mailmojo#sync"


def documented() -> Iterator[tuple[str, int, int]]:
    """Yield the table: who or what, calls of Sesamy, calls of Mailmojo."""
    section = PAGE.read_text(encoding="utf-8").split("## Calls per sync", 1)[1].split("\n## ", 1)[0]
    for name, sesamy, mailmojo in ROW.findall(section):
        yield name, int(sesamy), int(mailmojo)


def known(stage: Stage, kind: str, contact: str = "none", **profile: Any) -> None:
    """Add the user, who has bought what `kind` says and whose contact is as `contact` says."""
    seed = Seed(1, 1, kind, contact, USER)
    grown = seed.grow()
    stage.world.add_user(USER, **{**grown, "profile": grown["profile"] | profile})
    if contact != "none":
        stage.world.add_contact(**seed.grow_contact(int(stage.sandbox.list_id), 2))


def pages_of_contracts(stage: Stage) -> None:
    known(stage, "recurring", "tagged")
    user = stage.user(USER)
    user.contracts = [user.contracts[0] | {"id": f"contract_{number}"} for number in range(101)]


SETUPS: dict[str, Callable[[Stage], None]] = {
    "a tombstone, an unknown type, another vendor": lambda stage: known(stage, "recurring"),
    "a guest by its id": lambda _: None,
    "a user whom Sesamy does not know": lambda _: None,
    "a guest by its profile": lambda stage: known(stage, "guest_marked"),
    "a user without e-mail": lambda stage: known(stage, "no_email"),
    "no contract, new to Mailmojo": lambda stage: known(stage, "nothing"),
    "no contract, a contact on the list": lambda stage: known(stage, "nothing", "tagged"),
    "a subscriber, new to Mailmojo": lambda stage: known(stage, "recurring"),
    "a subscriber, a contact on the list": lambda stage: known(stage, "recurring", "tagged"),
    "the same, and nothing has changed": lambda stage: known(stage, "recurring", "tagged"),
    "a subscriber, a contact that left the list": lambda stage: known(stage, "recurring", "unsubscribed"),
    "a subscriber, a contact that never was on the list": lambda stage: known(stage, "recurring", "never_on_list"),
    "a subscriber with 101 contracts": pages_of_contracts,
    "a subscriber with 500 waiting events of all eight types": lambda stage: known(stage, "recurring", "tagged"),
    "a sync request": lambda stage: known(stage, "recurring", "tagged"),
}
MESSAGES: dict[str, list[Message]] = {
    "a tombstone, an unknown type, another vendor": [
        Message(USER.encode(), None),
        event(USER, "contract.9#unheard"),
        event(USER, vendor="vendor_other"),
    ],
    "a guest by its id": [event("guest|one")],
    "a subscriber with 500 waiting events of all eight types": [
        event(USER, EVENT_TYPES[number % 8]) for number in range(500)
    ],
    "a sync request": [event(USER, SYNC)],
}


def test_the_page_and_this_file_name_the_same() -> None:
    assert [name for name, *_ in documented()] == list(SETUPS)


async def test_a_sync_makes_the_calls_that_the_page_says_and_no_other(new_stage: NewStage) -> None:
    found, wanted = {}, {}
    stage = await new_stage(1)
    stage.world.fields |= SESAMY_FIELDS
    (warm,) = stage.users(1, "email|warm")
    service = await stage.service(SESAMY_VENDOR_ID="vendor_123", SYNC_LINGER="1")
    await stage.send(event(warm))
    await stage.all_committed()
    for name, *calls in documented():
        clear(stage)
        SETUPS[name](stage)
        messages = MESSAGES.get(name, [event(USER)])
        if name == "the same, and nothing has changed":
            await stage.send(*messages)
            await stage.all_committed()
        seen = stage.log.count
        await stage.send(*messages)
        await stage.all_committed()
        records = stage.log.since(seen)
        found[name] = [sum(record.api == api for record in records) for api in ("sesamy", "mailmojo")]
        wanted[name] = calls
    assert found == wanted
    await stop(service)


def clear(stage: Stage) -> None:
    """Make both sides forget the user."""
    user = stage.world.user(USER)
    if user is None:
        return
    stage.world.remove_user(USER)
    if (email := address(user)) and stage.world.contact(email):
        stage.world.remove_contact(email)
