"""The use case: read a user's state from Sesamy, work out what the contact should be, write what differs."""

import asyncio

import structlog
from msgspec import Struct

from consumer.clients.account_fields import AccountFields
from consumer.clients.errors import Unavailable
from consumer.clients.mailmojo import MailmojoClient
from consumer.clients.sesamy import SesamyClient
from consumer.mapping import contact as contacts
from consumer.mapping import person
from consumer.mapping.contact import Plan, Wanted
from consumer.mapping.state import Rules
from consumer.ops.metrics import Metrics
from consumer.stream.membership import WRITE_TIMEOUT
from consumer.sync.flight import Flight, WriteAudit
from consumer.sync.locks import AddressLocks
from consumer.sync.outcome import Outcome

_log = structlog.get_logger("sync")
