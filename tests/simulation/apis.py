"""Sesamy's and Mailmojo's APIs in virtual time: the sandbox's fakes, and the network between them and the hosts."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Final

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from consumer.clients.bounds import Progress, Sending
from consumer.clients.http import Answer, HttpClient, HttpClientFactory
from consumer.sandbox import Answers, Options, Plan, Sandbox, World
from consumer.sandbox.endpoint import Endpoint, Visit
from tests.simulation.host import EPOCH, Host
from tests.simulation.timeline import Timeline

_HOSTS: Final = {"sesamy": "api2.sesamy.test", "mailmojo": "api.mailmojo.test"}
_CONNECT_TIMEOUT: Final = 5.0


class Apis:
    """Both fakes, and what goes wrong on the way to them."""

    def __init__(
        self,
        timeline: Timeline,
        world: World,
        *,
        answers: Answers,
        plan: Plan,
        skew: float = 0.0,
        travel: tuple[float, float] = (0.001, 0.004),
        tell: Callable[[str, str], None] = lambda _host, _text: None,
    ) -> None:
        """Serve `world`.

        Args:
            timeline: orders everything.
            world: users and contacts; its clocks are the timeline's.
            answers: how the fakes answer what nobody knows of the real APIs.
            plan: latency and quotas.
            skew: seconds by which the servers' clocks are ahead.
            travel: shortest and longest time of a request or a response in the network, in seconds.
            tell: told of what arrives and is answered, with the host's name.
        """
        self.timeline = timeline
        self.unreachable: set[str] = set()
        """Names of hosts that cannot connect to either API."""
        self.before_write: Callable[[Host, Request], None] = lambda _host, _request: None
        """Called between a write's check of the lease and its first byte."""
        self.skew = skew
        self._travel = travel
        self._tell = tell
        self._rng = timeline.stream("http network")
        options = Options(answers=answers, plan=plan, seed=timeline.seed)
        self.sandbox: Final = Sandbox(options, world=world, clock=self._clock, wall=self._wall)

    @property
    def environment(self) -> dict[str, str]:
        """The settings that point the service at the fakes."""
        sesamy = f"https://{_HOSTS['sesamy']}"
        return self.sandbox.environment | {
            "SESAMY_API_URL": sesamy,
            "SESAMY_TOKEN_URL": f"{sesamy}/oauth/token",
            "MAILMOJO_API_URL": f"https://{_HOSTS['mailmojo']}",
        }

    def client(self, host: Host) -> HttpClientFactory:
        """Return what makes the HTTP clients of a host."""

        def make(origin: URL, _session: aiohttp.ClientSession, **options: Any) -> HttpClient:
            return SimulatedClient(self, host, origin, **options)

        return make

    def delay(self) -> float:
        """Return how long the next message takes."""
        return self._rng.uniform(*self._travel)

    def visit(self, host: Host, origin: URL, request: "Request") -> None:
        """Take a request on its way; its answer is posted to the host."""
        endpoint: Endpoint = self.sandbox.sesamy if origin.host == _HOSTS["sesamy"] else self.sandbox.mailmojo
        self.timeline.after(self.delay(), lambda: self._arrive(endpoint, host, request))

    def _arrive(self, endpoint: Endpoint, host: Host, request: "Request") -> None:
        call = endpoint.start(request.method, request.target, request.headers)
        visit = Visit(endpoint, call)
        call.body = request.body or b""
        visit.arrive()
        self._tell(host.name, f"-> {call.method} {call.target}")
        self.timeline.after(visit.pause, lambda: self._take_effect(visit, host, request))

    def _take_effect(self, visit: Visit, host: Host, request: "Request") -> None:
        visit.take_effect()
        self.timeline.after(0.0 if visit.is_over else visit.pause, lambda: self._answer(visit, host, request))

    def _answer(self, visit: Visit, host: Host, request: "Request") -> None:
        reply = visit.answer()
        visit.log()
        if reply is None:
            self._tell(host.name, f"<- connection lost: {request.method} {request.target}")
            host.post(lambda: request.fail(aiohttp.ServerDisconnectedError()), self.delay())
            return
        self._tell(host.name, f"<- {reply.status} {request.method} {request.target}")
        headers = CIMultiDict({"Content-Type": reply.content_type, **reply.headers})
        if headers.pop(CUT_BODY, None) is not None and reply.body:
            host.post(lambda: request.fail(aiohttp.ClientPayloadError("the body broke off")), self.delay())
            return
        answer = Answer(reply.status, reply.body, CIMultiDictProxy(headers))
        host.post(lambda: request.succeed(answer), self.delay())

    def _clock(self) -> float:
        return self.timeline.now

    def _wall(self) -> float:
        return EPOCH + self.timeline.now + self.skew


CUT_BODY: Final = "X-Simulated-Cut-Body"
"""A header by which a rule has a response break off in its body."""


class Request:
    """One request of a client, and the future of its response."""

    def __init__(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> None:
        self.method = method
        self.target = target
        self.headers = CIMultiDict(headers)
        self.body = body
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def succeed(self, answer: Answer) -> None:
        """Deliver the response, unless the client no longer waits for it."""
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Deliver an error, unless the client no longer waits."""
        if not self.answer.done():
            self.answer.set_exception(error)


class SimulatedClient(HttpClient):
    """Sends requests to a fake; the check and the send are one step, as with `ConnectionClient`."""

    def __init__(self, apis: Apis, host: Host, origin: URL, **options: Any) -> None:
        self.timeout: float = options["timeout"] if "timeout" in options else options["deadlines"].seconds
        self.connect_timeout = _CONNECT_TIMEOUT
        self.through = ""
        self._apis = apis
        self._host = host
        self._origin = origin

    async def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        sending: Sending = nullcontext,
        state: Progress | None = None,
    ) -> Answer:
        """See `HttpClient`."""
        state = state or Progress()
        async with asyncio.timeout(self.timeout):
            if self._host.name in self._apis.unreachable:
                await asyncio.sleep(self._apis.delay())
                raise ConnectionRefusedError(111, "Connection refused")
            with state.allow(sending):
                state.sent = True
                request = Request(method, target, headers, body)
                if method != "GET":
                    self._apis.before_write(self._host, request)
                self._apis.visit(self._host, self._origin, request)
                answer = await request.answer
                state.status = answer.status
                return answer
