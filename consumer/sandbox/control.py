"""The control endpoint under `/_sandbox/`: what a test in another process looks at and changes.

| call | answer or effect |
|---|---|
| `GET /` | addresses, settings, counts |
| `GET /log?since=N` | the requests after number N as NDJSON |
| `GET /violations` | requests that no correct client sends |
| `GET /users?limit&offset` | ids and versions |
| `GET POST DELETE /users/{id}` | read, change (answers the version; adds an unknown one), remove |
| `GET /contacts?limit&offset` | all contacts |
| `GET PUT PATCH DELETE /contacts/{address}` | read, add, edit as a marketer would, remove |
| `GET PUT DELETE /faults` · `POST /faults` | read, replace, end all (`Plan`) · add one (`Rule`) |
| `DELETE /tokens` | makes every Sesamy token issued so far a wrong one |
"""

from collections.abc import Awaitable, Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web
from msgspec import Struct

from consumer.sandbox.contacts import Contact, Status
from consumer.sandbox.faults import Plan, Rule
from consumer.sandbox.world import User

if TYPE_CHECKING:
    from consumer.sandbox.server import Sandbox

PREFIX = "/_sandbox"


class UserChange(Struct, forbid_unknown_fields=True):
    """What to change in a user; `{}` is a new version with nothing else."""

    profile: dict[str, Any] | None = None
    contracts: list[dict[str, Any]] | None = None
    entitlements: list[dict[str, Any]] | None = None
    transactions: list[dict[str, Any]] | None = None


class ContactValues(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a marketer sets; `custom` replaces the whole object."""

    first_name: str | msgspec.UnsetType = msgspec.UNSET
    last_name: str | msgspec.UnsetType = msgspec.UNSET
    phone: str | msgspec.UnsetType = msgspec.UNSET
    tags: list[str] | msgspec.UnsetType = msgspec.UNSET
    custom: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    status: Status | msgspec.UnsetType = msgspec.UNSET


def control_app(sandbox: "Sandbox") -> web.Application:
    """Return the application."""
    control = _Control(sandbox)
    app = web.Application(middlewares=[_errors], client_max_size=1 << 28)
    app.router.add_get(f"{PREFIX}/", control.about)
    app.router.add_get(f"{PREFIX}/log", control.log)
    app.router.add_get(f"{PREFIX}/violations", control.violations)
    app.router.add_get(f"{PREFIX}/users", control.users)
    app.router.add_route("*", f"{PREFIX}/users/{{key}}", control.user)
    app.router.add_get(f"{PREFIX}/contacts", control.contacts)
    app.router.add_route("*", f"{PREFIX}/contacts/{{key}}", control.contact)
    app.router.add_route("*", f"{PREFIX}/faults", control.faults)
    app.router.add_delete(f"{PREFIX}/tokens", control.tokens)
    return app


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except KeyError as missing:
        return _json({"error": f"there is no {missing}"}, 404)
    except (msgspec.DecodeError, ValueError) as error:
        return _json({"error": str(error)}, 400)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def _window(request: web.Request) -> tuple[int, int | None]:
    offset, limit = int(request.query.get("offset", 0)), request.query.get("limit")
    return offset, None if limit is None else offset + int(limit)


class _Control:
    def __init__(self, sandbox: "Sandbox") -> None:
        self._sandbox, self._world = sandbox, sandbox.world

    async def about(self, _: web.Request) -> web.Response:
        sandbox = self._sandbox
        return _json(
            {
                "about": "fakes built from references, unverified against the live services",
                "environment": sandbox.environment,
                "control_url": sandbox.control_url,
                "answers": sandbox.options.answers,
                "requests": sandbox.log.count,
                "violations": len(sandbox.log.violations),
                "users": len(self._world.user_ids()),
                "fields": self._world.fields,
            }
        )

    async def log(self, request: web.Request) -> web.Response:
        records = self._sandbox.log.since(int(request.query.get("since", 0)))
        return web.Response(body=msgspec.json.Encoder().encode_lines(records), content_type="application/x-ndjson")

    async def violations(self, _: web.Request) -> web.Response:
        return _json(self._sandbox.log.violations)

    async def users(self, request: web.Request) -> web.Response:
        ids = self._world.user_ids()[slice(*_window(request))]
        return _json([{"id": key, "version": user.version} for key in ids if (user := self._world.user(key))])

    async def user(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        if request.method == "POST":
            change = msgspec.json.decode(await request.read() or b"{}", type=UserChange)
            if self._world.user(key) is None:
                user = self._world.add_user(key)
                user.version = 0
            return _json({"version": self._world.change(key, **msgspec.structs.asdict(change))})
        if request.method == "DELETE":
            self._world.remove_user(key)
            return _json({})
        return _json(_found(key, self._world.user(key)))

    async def contacts(self, request: web.Request) -> web.Response:
        return _json(list(islice(self._world.contacts(), *_window(request))))

    async def contact(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        if request.method in {"PUT", "PATCH"}:
            values = msgspec.json.decode(await request.read() or b"{}", type=ContactValues)
            given = {
                name: value for name, value in msgspec.structs.asdict(values).items() if value is not msgspec.UNSET
            }
            change = self._world.add_contact if request.method == "PUT" else self._world.edit_contact
            return _json(change(key, **given))
        if request.method == "DELETE":
            self._world.remove_contact(key)
            return _json({})
        return _json(_found(key, self._world.contact(key)))

    async def faults(self, request: web.Request) -> web.Response:
        faults = self._sandbox.faults
        if request.method == "PUT":
            faults.set(msgspec.json.decode(await request.read(), type=Plan))
        elif request.method == "POST":
            faults.add(msgspec.json.decode(await request.read(), type=Rule))
        elif request.method == "DELETE":
            faults.clear()
        return _json(msgspec.structs.replace(faults.plan, rules=faults.rules))

    async def tokens(self, _: web.Request) -> web.Response:
        self._sandbox.sesamy.revoke_tokens()
        return _json({})


def _found(key: str, value: User | Contact | None) -> User | Contact:
    if value is None:
        raise KeyError(key)
    return value
