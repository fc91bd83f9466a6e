"""A fake of Sesamy's Management API and token endpoint, from `docs/reference/sesamy.md`.

Never tried against the live service: what it refuses and answers is what the reference says, no more.
"""

import base64
import hashlib
import itertools
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from consumer.sandbox.endpoint import Call, Endpoint, Handler, Refusal, Reply, broken_rule
from consumer.sandbox.world import User

TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path
PAGE = 100  # A: how long a page is when no limit is asked for
_FORM = "application/x-www-form-urlencoded"
_TOKEN_KEYS = {"grant_type", "client_id", "client_secret", "audience"}
_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    500: "internal_error",
    503: "service_unavailable",
}


class SesamyApi(Endpoint):
    """The Management API under `/management` and the token endpoint at `/oauth/token`."""

    def __init__(self, *args: Any, client_id: str, client_secret: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._client = (client_id, client_secret)
        self._requests = itertools.count(1)
        self._tokens: dict[str, float] = {}
        self._lists = {
            "contracts": (self._contracts, ("userId", "status", "limit", "offset")),
            "entitlements": (self._entitlements, ("userId", "type", "sku")),
            "transactions": (self._transactions, ("userId", "limit", "offset")),
            "bills": (self._bills, ("userId", "status", "limit", "offset")),
        }

    def start(self, method: str, target: str, headers: Mapping[str, str]) -> Call:
        """Tell the token endpoint, a host of its own in reality, from the Management API."""
        return Call("token" if target.partition("?")[0] == TOKEN_PATH else "sesamy", method, target, headers)

    def revoke_tokens(self) -> None:
        """Make every token issued so far a wrong one."""
        self._tokens.clear()

    def route(self, call: Call) -> Handler:
        """Tell the calls of the reference apart."""
        if call.api == "token":
            call.operation = "token"
            return _only("POST", call, self._token)
        match call.path.split("/"):
            case ["", "management", "users"]:
                call.operation = "list_users"
                return _only("GET", call, self._users)
            case ["", "management", "users", segment] if segment:
                call.operation = "get_user"
                call.user_id = call.text(segment)
                return _only("GET", call, self._user)
            case ["", "management", name] if name in self._lists:
                call.operation = f"list_{name}"
                handler, known = self._lists[name]
                query = call.query(*known)
                call.user_id = query.get("userId")
                return _only("GET", call, lambda call: handler(call, query))
        raise broken_rule("no such path", 404)

    def authorize(self, call: Call) -> None:
        """Take any token that is issued, not expired and not revoked."""
        if call.api == "token":
            return
        expires = self._tokens.get(call.bearer())
        if expires is None or expires <= self.clock():
            raise Refusal(int(self.answers.unauthorized), "the token is wrong or expired")

    def failure(self, call: Call, status: int, text: str) -> Reply:
        """Answer in the documented shape of errors."""
        del call
        error = {"code": _CODES.get(status, f"http_{status}"), "message": text, "details": None}
        return Reply.json({"error": error | {"request_id": f"req_{next(self._requests)}"}}, status)

    def throttled(self, wait: float) -> Reply:
        """Answer 429 with `retry_after` in the body, and a header where the answers say so."""
        seconds = max(1, math.ceil(wait))
        error = {"code": "rate_limit_exceeded", "message": "too many requests", "retry_after": seconds}
        header = {"body": {}, "seconds": {"Retry-After": str(seconds)}, "date": {"Retry-After": self.retry_date(wait)}}
        return Reply.json({"error": error}, 429, header[self.answers.sesamy_throttle])

    def _token(self, call: Call) -> Reply:
        if call.content_type != _FORM:
            raise broken_rule("a token is asked for with a form, not with JSON", 403)
        pairs = parse_qsl(call.body.decode(errors="replace"), keep_blank_values=True)
        form = dict(pairs)
        if len(form) != len(pairs) or not form.keys() <= _TOKEN_KEYS:
            raise broken_rule("a token request has grant_type, client_id, client_secret and audience, once each")
        if form.get("grant_type") != "client_credentials":
            raise broken_rule("the grant type is client_credentials")
        if (form.get("client_id"), form.get("client_secret")) != self._client:
            raise Refusal(401, "no such client")
        lifetime = self.faults.plan.token_lifetime
        digest = hashlib.sha256(b"%d" % next(self._requests)).digest()
        token = base64.urlsafe_b64encode(digest).decode()
        self._tokens[token] = self.clock() + lifetime
        return Reply.json({"access_token": token, "token_type": "Bearer", "expires_in": math.floor(lifetime)})

    def _user(self, call: Call) -> Reply:
        user = self.world.user(call.user_id or "")
        if user is None:
            raise Refusal(404, "no such user")
        call.user_version = user.version
        return Reply.json(self._profile(user))

    def _users(self, call: Call) -> Reply:
        query = call.query("limit", "offset", "search")
        ids, wanted = self.world.user_ids(), query.get("search", "").lower()
        if wanted:
            ids = [user_id for user_id in ids if wanted in user_id.lower() or wanted in self._email(user_id)]
        limit, offset = self._page(query)
        users = [user for user_id in ids[offset : offset + limit] if (user := self.world.user(user_id))]
        return self._list([self._profile(user) for user in users], len(ids), limit, offset)

    def _contracts(self, call: Call, query: dict[str, str]) -> Reply:
        contracts = self._of(call).contracts
        if "status" in query:
            contracts = [contract for contract in contracts if contract.get("status") == query["status"]]
        return self._paged(contracts, query)

    def _entitlements(self, call: Call, query: dict[str, str]) -> Reply:
        found = [
            entitlement
            for entitlement in self._of(call).entitlements
            if all(entitlement.get(key) == query[key] for key in ("type", "sku") if key in query)
        ]
        return self._list(found, len(found), len(found), 0)

    def _transactions(self, call: Call, query: dict[str, str]) -> Reply:
        return self._paged(self._of(call).transactions, query)

    def _bills(self, call: Call, query: dict[str, str]) -> Reply:
        self._of(call)
        return self._paged([], query)

    def _of(self, call: Call) -> User:
        """Return the user that the query names; one that Sesamy does not know has nothing."""
        if not call.user_id:
            raise broken_rule("a list is asked for with a userId")
        user = self.world.user(call.user_id) or User(id=call.user_id, version=0, profile={})
        call.user_version = user.version or None
        return user

    def _email(self, user_id: str) -> str:
        user = self.world.user(user_id)
        return str(user.profile.get("email") or "").lower() if user else ""

    def _profile(self, user: User) -> dict[str, Any]:
        renamed = {"userId": self.answers.profile_id, "isGuest": self.answers.guest_mark}
        return {renamed.get(key, key): value for key, value in user.profile.items()}

    def _page(self, query: dict[str, str]) -> tuple[int, int]:
        try:
            limit, offset = int(query.get("limit", PAGE)), int(query.get("offset", 0))
        except ValueError:
            raise broken_rule("limit and offset are numbers") from None
        if limit < 1 or offset < 0:
            raise broken_rule("limit is at least 1, offset at least 0")
        if self.answers.page_cap != "none":
            limit = min(limit, int(self.answers.page_cap))
        return limit, offset

    def _paged(self, items: list[dict[str, Any]], query: dict[str, str]) -> Reply:
        limit, offset = self._page(query)
        return self._list(items[offset : offset + limit], len(items), limit, offset)

    def _list(self, items: list[dict[str, Any]], total: int, limit: int, offset: int) -> Reply:
        if self.answers.sesamy_lists == "bare":
            return Reply.json(items)
        about = {"limit": limit, "offset": offset}
        if self.answers.totals == "yes":
            about["total"] = total
        return Reply.json({"data": items, self.answers.sesamy_lists: about})


def _only(method: str, call: Call, handler: Handler) -> Handler:
    if call.method != method:
        raise broken_rule(f"{call.path} takes {method}", 405)
    return handler
