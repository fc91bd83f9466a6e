"""A fake of Mailmojo's REST API, from `docs/reference/mailmojo.md` alone.

Never tried against the live service: what it refuses and answers is what the reference says, and each unknown there is
one of `Answers`.
"""

import csv
import io
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

from consumer.sandbox import bodies, contacts
from consumer.sandbox.answers import Answers
from consumer.sandbox.contacts import Contact, fold, user_version
from consumer.sandbox.endpoint import Call, Endpoint, Handler, Refusal, Reply, broken_rule
from consumer.sandbox.swagger import FIELDS_ELSEWHERE, FIELDS_PATH, document

Shape = Callable[[Contact, Answers, dict[str, str]], dict[str, Any]]
"""How a contact stands on the wire."""

_READS = frozenset({"GET"})


class MailmojoApi(Endpoint):
    """Contacts, lists and account fields under `/v1/`, and the Swagger document at `/`."""

    def __init__(self, *args: Any, api_token: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._token = api_token
        self._fields_path = {"default": FIELDS_PATH, "elsewhere": FIELDS_ELSEWHERE}.get(self.answers.fields)

    def start(self, method: str, target: str, headers: Mapping[str, str]) -> Call:
        """Take every request as one of this API."""
        return Call("mailmojo", method, target, headers)

    def route(self, call: Call) -> Handler:
        """Tell the calls of the reference apart."""
        if call.path == "/":
            return self._method(call, GET=("swagger", self._swagger))
        if not call.path.endswith("/"):
            raise broken_rule("every path ends with a slash", 301 if self.answers.slashless == "redirect" else 404)
        if call.path == self._fields_path:
            return self._method(call, GET=("list_fields", self._list_fields), POST=("create_field", self._create_field))
        if call.path == FIELDS_PATH:
            # A correct client looks there first, so this is no violation.
            call.operation = "list_fields" if call.method == "GET" else "create_field"
            raise Refusal(int(self.answers.fields_missing), "no such path")
        match call.path[1:-1].split("/"):
            case ["v1", "contacts", address]:
                self._about(call, address)
                return self._method(call, GET=("get_contact", self._get), PATCH=("patch_contact", self._patch))
            case ["v1", "lists"]:
                return self._method(call, GET=("list_lists", self._lists))
            case ["v1", "lists", list_id]:
                return self._method(call, GET=("get_list", self._with_list(list_id, self._list)))
            case ["v1", "lists", list_id, "unsubscribed"]:
                return self._method(call, GET=("list_unsubscribed", self._with_list(list_id, self._unsubscribed)))
            case ["v1", "lists", list_id, "subscribers"]:
                return self._method(
                    call,
                    GET=("list_subscribers", self._with_list(list_id, self._subscribers)),
                    POST=("post_subscriber", self._with_list(list_id, self._post)),
                )
            case ["v1", "lists", list_id, "subscribers", "import"]:
                return self._method(call, POST=("import_subscribers", self._with_list(list_id, self._import)))
            case ["v1", "lists", list_id, "subscribers", address]:
                self._about(call, address)
                return self._method(
                    call,
                    GET=("get_subscriber", self._with_list(list_id, self._get_subscriber)),
                    DELETE=("delete_subscriber", self._with_list(list_id, self._delete)),
                )
        raise broken_rule("no such path", 404)

    def authorize(self, call: Call) -> None:
        """Take the one token, as it was pasted."""
        if call.operation == "swagger" and self.answers.swagger == "open":
            return
        if call.bearer() != self._token:
            raise Refusal(401, "bad or expired token")

    def failure(self, call: Call, status: int, text: str) -> Reply:
        """Answer an error in the shape that the answers say."""
        if status == 301:
            return Reply(301, headers={"Location": call.path + "/"})
        if status == 404 and self.answers.not_found == "empty":
            return Reply(404)
        if status == 404 and self.answers.not_found == "html":
            return Reply(404, b"<!doctype html><title>404</title><h1>Not Found</h1>", "text/html")
        shape = self.answers.errors
        if shape == "text":
            return Reply(status, text.encode(), "text/plain")
        return Reply.json({shape: {"email": [text]} if shape == "errors" else text}, status)

    def throttled(self, wait: float) -> Reply:
        """Answer 429 and say when to come back in the way that the answers say."""
        seconds = str(max(1, math.ceil(wait)))
        if self.answers.throttle == "body":
            return Reply.json({"detail": "too many requests", "retry_after": int(seconds)}, 429)
        headers = {
            "seconds": {"Retry-After": seconds},
            "date": {"Retry-After": self.retry_date(wait)},
            "headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(self.wall() + wait) + 1)},
        }
        return Reply.json({"detail": "too many requests"}, 429, headers.get(self.answers.throttle))

    def quota_headers(self, allowance: Any) -> dict[str, str]:
        """Return headers only where the answers say so: none are known."""
        return super().quota_headers(allowance) if self.answers.throttle == "headers" else {}

    def _method(self, call: Call, **handlers: tuple[str, Handler]) -> Handler:
        if call.method not in handlers:
            raise broken_rule(f"this path takes {' and '.join(handlers)}", 405)
        call.operation, handler = handlers[call.method]
        call.write = call.method not in _READS and call.operation != "create_field"
        if call.operation == "post_subscriber":
            self._peek(call)
        return handler

    @staticmethod
    def _about(call: Call, segment: str) -> None:
        address = call.text(segment)
        call.address = fold(address)
        if address != call.address:
            call.violations.append("an address is trimmed and in lower case")

    @staticmethod
    def _peek(call: Call) -> None:
        """Say in the call whom a POST is about, so that faults and the log know it even when it is refused."""
        try:
            email = call.json().get("email")
        except Refusal:
            return
        if isinstance(email, str):
            call.address = fold(email)

    def _with_list(self, segment: str, handler: Callable[[Call, int], Reply]) -> Handler:
        def answer(call: Call) -> Reply:
            if not segment.isdecimal() or int(segment) not in self.world.lists:
                raise Refusal(404, "no such list")
            return handler(call, int(segment))

        return answer

    def _contact(self, call: Call) -> Contact:
        contact = self.world.contact(call.address or "")
        if contact is None or (contact.status == "d" and self.answers.deleted == "hidden"):
            raise Refusal(404, "no such contact")
        return contact

    def _get(self, call: Call) -> Reply:
        call.query()
        contact = self._contact(call)
        call.version_read, call.user_version = contact.version, contact.user_version
        return Reply.json(contacts.full_contact(contact, self.answers, self.world.fields))

    def _patch(self, call: Call) -> Reply:
        contact = self._contact(call)
        body = bodies.base_contact(call, contact, self.world.fields, self.answers)
        if fold(body["email"]) != call.address:
            raise broken_rule("the body's email is the contact's")
        after = self._applied(call, contact, contacts.patched(contact, body, self.answers.custom), body)
        shape = contacts.full_contact if self.answers.patch_echo == "contact" else contacts.base_contact
        return Reply.json(shape(after, self.answers, self.world.fields))

    def _post(self, call: Call, list_id: int) -> Reply:
        body = bodies.subscriber(call, self.world.fields, self.answers)
        before = self.world.contact(body["email"])
        after = contacts.posted(before, body, self.answers, list_id, self.world.now())
        self._applied(call, before, after, body)
        return Reply.json(contacts.full_contact(after, self.answers, self.world.fields), 201)

    def _delete(self, call: Call, list_id: int) -> Reply:
        contact = self._contact(call)
        after = self._applied(call, contact, contacts.unsubscribed(contact, list_id, self.world.now()), {})
        return Reply.json(contacts.full_contact(after, self.answers, self.world.fields))

    def _import(self, call: Call, list_id: int) -> Reply:
        if call.content_type != "text/csv":
            raise broken_rule("an import is text/csv", 415)
        rows = list(csv.DictReader(io.StringIO(call.body.decode(errors="replace"))))
        for row in rows:
            if (email := row.get("email")) and self.world.contact(email) is None:
                after = contacts.posted(None, {"email": email}, self.answers, list_id, self.world.now())
                self.world.apply(None, after)
        return Reply.json({"num_contacts": len(rows)})

    def _applied(self, call: Call, before: Contact | None, after: Contact, body: dict[str, Any]) -> Contact:
        call.applied = self.world.apply(before, after)
        call.user_version = user_version(body.get("tags"))
        user_id = body.get("custom", {}).get("Sesamy User ID")
        call.user_id = user_id if isinstance(user_id, str) else None
        return after

    def _get_subscriber(self, call: Call, list_id: int) -> Reply:
        contact = self._contact(call)
        if contact.on_list(list_id) != "a":
            raise Refusal(404, "no such subscriber")
        call.version_read, call.user_version = contact.version, contact.user_version
        return Reply.json(contacts.base_contact(contact, self.answers, self.world.fields) | {"subscribed": True})

    def _subscribers(self, call: Call, list_id: int) -> Reply:
        return self._contacts(call, list_id, "a", contacts.base_contact)

    def _unsubscribed(self, call: Call, list_id: int) -> Reply:
        if self.answers.unsubscribed == "404":
            raise Refusal(404, "no such path")
        return self._contacts(call, list_id, "u", contacts.full_contact)

    def _contacts(self, call: Call, list_id: int, status: str, shape: Shape) -> Reply:
        query = call.query("limit", "offset")
        if any(not value.isdecimal() for value in query.values()) or query.get("limit") == "0":
            raise broken_rule("limit is a number, at least 1, and offset one, too")
        if "offset" in query and self.answers.contacts_offset == "refused":
            raise Refusal(int(self.answers.refusal), "offset: no such parameter")
        first = int(query.get("offset", 0)) if self.answers.contacts_offset == "taken" else 0
        most = [int(text) for text in (query.get("limit"), self.answers.contacts_cap) if text and text != "none"]
        found = (contact for contact in self.world.contacts() if contact.on_list(list_id) == status)
        page = itertools.islice(found, first, first + min(most) if most else None)
        items = [shape(contact, self.answers, self.world.fields) for contact in page]
        if self.answers.listed == "address":
            items = [{"email": item["email"]} for item in items]
        return Reply.json({"data": items} if self.answers.contact_lists == "data" else items)

    def _lists(self, call: Call) -> Reply:
        call.query()
        return Reply.json([{"id": list_id, "name": name} for list_id, name in self.world.lists.items()])

    def _list(self, call: Call, list_id: int) -> Reply:
        call.query()
        return Reply.json({"id": list_id, "name": self.world.lists[list_id]})

    def _list_fields(self, call: Call) -> Reply:
        call.query()
        fields = [{"name": name, "type": kind} for name, kind in self.world.fields.items()]
        return Reply.json({"data": fields} if self.answers.fields_list == "data" else fields)

    def _create_field(self, call: Call) -> Reply:
        name, kind = bodies.field(call)
        if name in self.world.fields:
            raise Refusal(int(self.answers.field_conflict), "name: there is such a field")
        self.world.fields[name] = kind
        return Reply.json({"name": name, "type": kind}, 201)

    def _swagger(self, call: Call) -> Reply:
        call.query()
        return Reply.json(document(self._fields_path, self.answers.swagger_base))
