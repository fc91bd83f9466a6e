"""The demo looks at its own result, from the sides of the fakes and of the broker. Each of these can fail."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from msgspec import Struct

from consumer.demo.run import Running, Stage
from consumer.ops.metrics import Metrics
from consumer.sandbox import Contact, RequestLog, User, World
from consumer.sandbox.contacts import damage

_ARRIVAL_JITTER: Final = 0.25
"""Seconds by which requests may bunch on their way to the fakes: the quota is kept where they are sent."""


class Finding(Struct, frozen=True):
    """One thing that must hold. `wrong` is empty when it does, else the first of what does not."""

    claim: str
    wrong: str = ""


def findings(stage: Stage, running: Running) -> list[Finding]:
    """Return everything that was looked at, in the order of the promises."""
    log, world = stage.sandbox.log, stage.world
    refused = {role.user_id for role in stage.roles if role.refused}
    return [
        Finding("every record is done, and committed", _undone(stage, running)),
        Finding("every contact shows its user's newest state", _first(stale(world, refused))),
        Finding("no guest became a contact", _first(guests_touched(stage.before, world))),
        Finding("manual tags, foreign fields and filled names are as they were", _first(harmed(stage.before, world))),
        Finding("nobody who had left was subscribed again", _first(subscribed_again(stage.before, world))),
        Finding("no two writes of a contact overlap, none goes back in time", _first(disorder(log))),
        Finding("the sentinels of order and commits are 0", _sentinels(stage.metrics)),
        Finding("the admin port called it ready", "" if stage.readiness[0] == 200 else str(stage.readiness)),
        Finding("the quotas were kept", _over_quota(stage)),
        Finding("just the malformed and the refused event are dead letters", _letters(stage)),
        Finding("no request breaks a rule of the references", _first(one.rule for one in log.violations)),
        Finding("no address and no secret is in the service's log", _leaks(stage)),
    ]


def is_guest(user: User) -> bool:
    """Return whether the invented user is a guest, told from how it was invented."""
    return bool(user.profile.get("isGuest")) or user.id.startswith(("guest|", "anonymous|"))


def address_of(user: User) -> str:
    """Return the address that the user's contact must have; empty for a user without."""
    return str(user.profile.get("email") or "").strip().lower()


def users(world: World) -> Iterator[User]:
    """Yield every user."""
    for user_id in world.user_ids():
        if user := world.user(user_id):
            yield user


def stale(world: World, exempt: Collection[str] = ()) -> Iterator[str]:
    """Yield the users who should be in Mailmojo as Sesamy has them now, and are not."""
    for user in users(world):
        address = address_of(user)
        if user.id in exempt or is_guest(user) or not address:
            continue
        contact = world.contact(address)
        shown = contact and contact.user_version
        if shown != user.version:
            yield f"{user.id} is at version {user.version}, its contact shows {shown}"


def guests_touched(before: Mapping[str, Contact], world: World) -> Iterator[str]:
    """Yield the guests whose contact was made or changed."""
    for user in users(world):
        if is_guest(user) and world.contact(address_of(user)) != before.get(address_of(user)):
            yield f"{user.id} was written"


def harmed(before: Mapping[str, Contact], world: World) -> Iterator[str]:
    """Yield what was lost or overwritten of what is not ours."""
    for address, contact in before.items():
        after = world.contact(address)
        for what in damage(contact, after) if after else ("contact",):
            if what != "subscribed":
                yield f"{address} lost {what}"


def subscribed_again(before: Mapping[str, Contact], world: World) -> Iterator[str]:
    """Yield who had unsubscribed, bounced or been deleted, and is subscribed now."""
    for address, contact in before.items():
        after = world.contact(address)
        if after and "subscribed" in damage(contact, after):
            yield address


def disorder(log: RequestLog) -> Iterator[str]:
    """Yield pairs of writes of one contact that were open at once, or went back to an older state."""
    for earlier, later in log.overlapping_writes():
        yield f"requests {earlier.number} and {later.number} wrote {earlier.address} at once"
    for earlier, later in log.backward_writes():
        yield f"request {later.number} wrote an older state of {later.address} than {earlier.number}"


def _undone(stage: Stage, running: Running) -> str:
    ends = dict(running.feeder.ends)
    committed = {partition: stage.committed.get(partition) for partition in ends}
    if committed != ends:
        return f"committed {committed}, stored {ends}"
    outcomes = events_by_outcome(stage.metrics)
    if outcomes.total() != running.feeder.planned:
        return f"{outcomes.total()} events counted, {running.feeder.planned} stored"
    return ""


def events_by_outcome(metrics: Metrics) -> Counter[str]:
    """Return how many events came to what."""
    found: Counter[str] = Counter()
    for sample in (sample for family in metrics.events.collect() for sample in family.samples):
        if sample.name.endswith("_total"):
            found[sample.labels["outcome"]] += int(sample.value)
    return found


def _sentinels(metrics: Metrics) -> str:
    names = ("order_violations_total", "commit_violations_total")
    values = {name: metrics.registry.get_sample_value(f"sesamy_mailmojo_{name}") for name in names}
    return "" if not any(values.values()) else str(values)


def _over_quota(stage: Stage) -> str:
    log, pace = stage.sandbox.log, stage.pace
    per_second = pace.sesamy_per_minute / 60
    for api, rate, burst in (
        ("Sesamy", per_second, pace.sesamy_burst),
        ("Mailmojo", pace.mailmojo_per_second, pace.mailmojo_burst),
    ):
        excess = log.excess("sesamy" if api == "Sesamy" else "mailmojo", rate=rate, burst=burst)
        if excess > rate * _ARRIVAL_JITTER + 1:
            return f"{api} saw {excess:.0f} requests more than its quota allows"
    return ""


def _letters(stage: Stage) -> str:
    wanted = Counter(malformed=1, rejected=sum(role.refused for role in stage.roles))
    found = Counter(letter.headers.get("reason", "no reason") for letter in stage.letters)
    return "" if found == wanted else f"{dict(found)} instead of {dict(wanted)}"


def _leaks(stage: Stage) -> str:
    text = stage.log_file.read_text(encoding="utf-8").lower()
    for secret in (stage.sandbox.client_secret, stage.sandbox.api_token):
        if secret in text:
            return "a secret"
    addresses = {address_of(user) for user in users(stage.world)} - {""}
    return _first(addresses.intersection(re.findall(r'[^\s"\\]+@[\w.]+', text)))


def _first(wrong: "Collection[str] | Iterator[str]") -> str:
    return next(iter(wrong), "")
