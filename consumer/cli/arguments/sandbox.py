"""The arguments of `sandbox`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_EPILOG = """\
examples:
  sesamy-mailmojo sandbox --users 1000 --latency 0.05
  sesamy-mailmojo sandbox --sesamy-per-minute 100 --mailmojo-per-second 5 --log requests.ndjson
  sesamy-mailmojo sandbox --fault api=mailmojo,operation=patch_contact,status=500,rate=0.01 --answer custom=replace

A fault has any of: api (sesamy, token, mailmojo), operation (as in the log), method, key (a user id or an
address), rate (a share), times, start and lasts (seconds), delay (seconds), status, body and content_type (an
answer without a comma; others through the control address), cut=true (close the connection), stage (before or
after the request took effect).

Answers to what the references leave open (the first is the default):
  profile_id: userId, id
  sesamy_lists: bare, meta, pagination
  totals: yes, no
  page_cap: none, 100
  guest_mark: isGuest, guest, temporary
  unauthorized: 401, 403
  sesamy_throttle: body, seconds, date
  custom: merge, replace
  clear: null, blank
  empty: null, blank, absent
  values: typed, text, digits
  status: both, contact, association
  deleted: shown, hidden
  address: kept, lower
  patch_echo: base, contact
  existing: merge, replace, leave
  unregistered: accept, refuse
  refusal: 400, 409, 422
  errors: detail, title, message, error, errors, text
  not_found: json, html, empty
  throttle: seconds, date, body, headers, silent
  contact_lists: bare, data
  listed: whole, address
  contacts_cap: none, 100
  contacts_offset: taken, ignored, refused
  unsubscribed: listed, 404
  slashless: 404, redirect
  fields: default, elsewhere, none
  fields_list: bare, data
  fields_missing: 404, 405
  field_conflict: 400, 409
  swagger: open, token
  swagger_base: root, v1
"""

T = TypeVar("T", int, float)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, and what `--help` says of the command."""
    parser.description = (
        "Serves fakes of Sesamy's and Mailmojo's APIs on 127.0.0.1 until SIGINT, SIGTERM or SIGHUP.\n"
        "They are built from references, unverified against the live services."
    )
    parser.epilog = _EPILOG
    port = _number(int, "a port is 0 to 65535", 0, 65_535)
    count = _number(int, "it is a whole number, 0 or more", 0, 1 << 40)
    seconds = _number(float, "it is a number of seconds, 0 or more", 0, 1e9)
    positive = _number(float, "it is a number above 0", 1e-9, 1e12)
    ports = parser.add_argument_group("ports (0 = any free one)")
    ports.add_argument("--sesamy-port", type=port, default=8101, metavar="PORT", help="default: %(default)s")
    ports.add_argument("--mailmojo-port", type=port, default=8102, metavar="PORT", help="default: %(default)s")
    ports.add_argument("--control-port", type=port, default=8103, metavar="PORT", help="default: %(default)s")
    world = parser.add_argument_group("world")
    world.add_argument("--users", type=count, default=1000, metavar="N", help="invented users (default: %(default)s)")
    world.add_argument("--seed", type=count, default=1, metavar="N", help="same seed, same users and faults")
    world.add_argument("--ordinary", action="store_true", help="no guests and nobody without an address")
    world.add_argument(
        "--user-ids", type=Path, metavar="FILE", help="users of these ids, one a line, instead; all of them ordinary"
    )
    world.add_argument("--answer", action="append", default=[], metavar="NAME=ANSWER", help="see below; repeatable")
    faults = parser.add_argument_group("faults (also while it runs: see the control address)")
    faults.add_argument("--latency", type=seconds, default=0.0, metavar="SECONDS", help="of every answer")
    faults.add_argument("--jitter", type=seconds, default=0.0, metavar="SECONDS", help="up to so much more")
    faults.add_argument("--sesamy-per-minute", type=positive, metavar="N", help="quota; beyond it 429 (default: none)")
    faults.add_argument("--sesamy-burst", type=positive, default=200.0, metavar="N", help="default: 200")
    faults.add_argument(
        "--mailmojo-per-second", type=positive, metavar="N", help="quota; beyond it 429 (default: none)"
    )
    faults.add_argument("--mailmojo-burst", type=positive, default=5.0, metavar="N", help="default: 5")
    faults.add_argument("--token-lifetime", type=positive, default=86_400.0, metavar="SECONDS", help="default: a day")
    faults.add_argument("--fault", action="append", default=[], metavar="KEY=VALUE,…", help="see below; repeatable")
    parser.add_argument("--log", type=Path, metavar="FILE.ndjson", help="append each request to this file")
    parser.add_argument(
        "--log-limit", type=count, default=100_000, metavar="N", help="requests kept in memory (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the addresses as one line of JSON")


def _number(kind: type[T], meaning: str, low: float, high: float) -> Callable[[str], T]:
    def parse(text: str) -> T:
        try:
            number = kind(text)
        except ValueError:
            number = kind("-1")
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{meaning}, not {text!r}")
        return number

    return parse
