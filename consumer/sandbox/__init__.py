"""Fakes of both APIs over real sockets, built from the references: nothing here was checked against a live service."""

from consumer.sandbox.answers import Answers
from consumer.sandbox.contacts import Contact
from consumer.sandbox.faults import Faults, Plan, Quota, Rule
from consumer.sandbox.log import Record, RequestLog, Violation
from consumer.sandbox.server import Options, Sandbox
from consumer.sandbox.world import Change, User, World

__all__ = [
    "Answers",
    "Change",
    "Contact",
    "Faults",
    "Options",
    "Plan",
    "Quota",
    "Record",
    "RequestLog",
    "Rule",
    "Sandbox",
    "User",
    "Violation",
    "World",
]
