"""Every answer to what the references leave open, for tests that must hold under each."""

import random

from consumer.sandbox import Answers

HIGH = {
    "SESAMY_REQUESTS_PER_MINUTE": "1000000",
    "SESAMY_BURST": "1000",
    "MAILMOJO_REQUESTS_PER_SECOND": "10000",
    "MAILMOJO_BURST": "1000",
}
"""Quotas that no test waits for."""


def combinations(count: int) -> dict[str, Answers]:
    """Return random answers to all unknowns at once: what is right under each answer alone may still clash."""
    dice, found = random.Random(1), {}
    for number in range(count):
        chosen = {name: dice.choice(answers) for name, answers in Answers.choices().items()}
        if chosen["fields"] == "none":
            chosen["unregistered"] = "accept"  # refusing fields that nobody can create leaves nothing to be right
        found[f"together-{number}"] = Answers.of(f"{name}={answer}" for name, answer in chosen.items())
    return found


EVERY = Answers.variants() | combinations(12)
