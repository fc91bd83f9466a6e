"""Both fakes and their control endpoint, served on sockets of their own."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from aiohttp import web
from msgspec import Struct

from consumer.sandbox.answers import Answers
from consumer.sandbox.control import PREFIX, control_app
from consumer.sandbox.endpoint import Endpoint
from consumer.sandbox.faults import Faults, Plan
from consumer.sandbox.log import RequestLog
from consumer.sandbox.mailmojo import MailmojoApi
from consumer.sandbox.sesamy import TOKEN_PATH, SesamyApi
from consumer.sandbox.world import LIST_ID, World

_GRACE = 0.1  # seconds that open requests have at the end; aiohttp takes 0 for ever


class Options(Struct, frozen=True, kw_only=True):
    """How the fakes are served. A port of 0 is any free one."""

    host: str = "127.0.0.1"
    sesamy_port: int = 0
    mailmojo_port: int = 0
    control_port: int = 0
    client_id: str = "sandbox"
    client_secret: str = "sandbox-secret"  # noqa: S105 - opens nothing but the fake
    api_token: str = "sandbox-token"  # noqa: S105 - opens nothing but the fake
    list_id: str = str(LIST_ID)
    answers: Answers = Answers()
    plan: Plan = Plan()
    seed: int = 1
    """Of the faults."""
    log_file: Path | None = None
    log_limit: int | None = None
    """How many requests the log keeps in memory; None is all."""


class Sandbox:
    """Fakes of Sesamy's and Mailmojo's APIs: `async with Sandbox() as sandbox:` serves them until the block ends.

    They are built from the references and were never checked against the live services.
    """

    def __init__(
        self,
        options: Options | None = None,
        *,
        world: World | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to serve `world`, an empty one by default.

        Raises:
            OSError: the log file cannot be opened.
        """
        self.options = options = options or Options()
        self.world = world or World(clock=clock, wall=wall)
        self.faults = Faults(options.plan, seed=options.seed, clock=clock)
        self.log = RequestLog(path=options.log_file, limit=options.log_limit)
        shared = (self.world, options.answers, self.faults, self.log)
        self.sesamy = SesamyApi(
            *shared, client_id=options.client_id, client_secret=options.client_secret, clock=clock, wall=wall
        )
        self.mailmojo = MailmojoApi(*shared, api_token=options.api_token, clock=clock, wall=wall)
        self.sesamy_url = self.token_url = self.mailmojo_url = self.control_url = ""
        self.client_id, self.client_secret = options.client_id, options.client_secret
        self.api_token, self.list_id = options.api_token, options.list_id
        self._runners: list[web.BaseRunner] = []

    async def __aenter__(self) -> Self:
        """Open the sockets.

        Raises:
            OSError: a port is taken.
        """
        options = self.options
        try:
            self.sesamy_url = await self._serve(_runner(self.sesamy), options.sesamy_port)
            self.mailmojo_url = await self._serve(_runner(self.mailmojo), options.mailmojo_port)
            control = web.AppRunner(control_app(self), access_log=None, shutdown_timeout=_GRACE)
            self.control_url = await self._serve(control, options.control_port) + PREFIX
        except BaseException:
            await self.__aexit__()
            raise
        self.token_url = self.sesamy_url + TOKEN_PATH
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the sockets and the log file; requests still open are cut and logged so."""
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        self._runners.clear()
        self.log.close()

    @property
    def environment(self) -> dict[str, str]:
        """The settings that point the service at the fakes (`docs/contract.md`)."""
        return {
            "SESAMY_API_URL": self.sesamy_url,
            "SESAMY_TOKEN_URL": self.token_url,
            "SESAMY_CLIENT_ID": self.client_id,
            "SESAMY_CLIENT_SECRET": self.client_secret,
            "MAILMOJO_API_URL": self.mailmojo_url,
            "MAILMOJO_API_TOKEN": self.api_token,
            "MAILMOJO_LIST_ID": self.list_id,
        }

    async def _serve(self, runner: web.BaseRunner, port: int) -> str:
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, self.options.host, port, backlog=1024).start()
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}"


def _runner(api: Endpoint) -> web.ServerRunner:
    # The low-level server: no routing between us and the raw target, and half the cost of an application.
    return web.ServerRunner(web.Server(api, access_log=None), shutdown_timeout=_GRACE)
