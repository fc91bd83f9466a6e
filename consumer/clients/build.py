"""Builds both clients from the settings: the only place where session, HTTP clients, gates and credentials meet."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from yarl import URL

from consumer.clients.account_fields import AccountFields
from consumer.clients.credentials import ClientCredentials, StaticToken
from consumer.clients.errors import Api
from consumer.clients.http import ConnectionClient, HttpClient, HttpClientFactory, SessionClient, missing_parts
from consumer.clients.mailmojo import MailmojoClient
from consumer.clients.quota import GateState, QuotaGate
from consumer.clients.sesamy import SesamyClient
from consumer.clients.session import READ_TIMEOUT, WRITE_TIMEOUT, open_session
from consumer.clients.transport import Transport
from consumer.clock import REAL_CLOCKS, Clocks
from consumer.mapping.fields import ACCOUNT_FIELDS
from consumer.ops.metrics import Metrics
from consumer.settings import Settings

_log = structlog.get_logger("clients")


class Clients:
    """The clients of one process."""

    def __init__(
        self,
        sesamy: SesamyClient,
        mailmojo: MailmojoClient,
        account_fields: AccountFields,
        gates: dict[Api, QuotaGate],
    ) -> None:
        self.sesamy = sesamy
        self.mailmojo = mailmojo
        self.account_fields = account_fields
        self._gates = gates

    def set_share(self, fraction: float) -> None:
        """Take this part (0 to 1) of both accounts' quotas from now on."""
        for gate in self._gates.values():
            gate.set_share(fraction)

    def quotas(self) -> dict[Api, GateState]:
        """Return by API how its gate stands now."""
        return {api: gate.state() for api, gate in self._gates.items()}


@asynccontextmanager
async def open_clients(
    settings: Settings,
    metrics: Metrics,
    *,
    write_timeout: float = WRITE_TIMEOUT,
    inject: Callable[[dict[str, str]], None] | None = None,
    http: HttpClientFactory | None = None,
    clocks: Clocks = REAL_CLOCKS,
) -> AsyncIterator[Clients]:
    """Open the clients. They make no call before `set_share`: a quota is the account's, not this process's.

    `write_timeout` bounds each request to Mailmojo, in seconds; `inject` adds the trace context to the headers of each
    request, where somebody traces. `http` makes what sends all requests. Without it `ClientSession` sends those for
    tokens and account fields, which are rare, and `ConnectionClient` all others.
    """
    client, cold_client = http or _client(metrics), http or SessionClient
    async with open_session() as session:

        def sender(kind: HttpClientFactory, url: str, timeout: float = READ_TIMEOUT) -> HttpClient:
            return kind(URL(url, encoded=True).origin(), session, timeout=timeout, proxies=settings.proxies)

        sesamy_gate = QuotaGate(
            "sesamy", settings.sesamy.requests_per_minute / 60, settings.sesamy.burst, metrics=metrics, share=0
        )
        sesamy = Transport(
            "sesamy",
            settings.sesamy.api_url,
            sender(client, settings.sesamy.api_url),
            sesamy_gate,
            ClientCredentials(
                settings.sesamy.token_url,
                settings.sesamy.client_id,
                settings.sesamy.client_secret,
                sender(cold_client, settings.sesamy.token_url),
                metrics=metrics,
                audience=settings.sesamy.audience,
                pause=sesamy_gate.close,
                inject=inject,
                clock=clocks.suspended,
                wall_clock=clocks.wall,
            ),
            metrics=metrics,
            inject=inject,
            wall_clock=clocks.wall,
        )
        mailmojo_gate = QuotaGate(
            "mailmojo", settings.mailmojo.requests_per_second, settings.mailmojo.burst, metrics=metrics, share=0
        )
        token = StaticToken(settings.mailmojo.api_token, clock=clocks.suspended)

        def mailmojo(kind: HttpClientFactory) -> Transport:
            url = settings.mailmojo.api_url
            return Transport(
                "mailmojo",
                url,
                sender(kind, url, write_timeout),
                mailmojo_gate,
                token,
                metrics=metrics,
                inject=inject,
                wall_clock=clocks.wall,
            )

        contacts = MailmojoClient(mailmojo(client), settings.mailmojo.list_id)
        yield Clients(
            SesamyClient(sesamy),
            contacts,
            AccountFields(
                mailmojo(cold_client),
                settings.mailmojo.fields_path,
                ACCOUNT_FIELDS,
                metrics,
                prove=contacts.prove,
                clock=clocks.monotonic,
            ),
            {"sesamy": sesamy_gate, "mailmojo": mailmojo_gate},
        )


def _client(metrics: Metrics) -> HttpClientFactory:
    """Return what sends the requests that a sync makes."""
    missing = missing_parts()
    metrics.http_fallback.set(missing is not None)
    if missing is None:
        return ConnectionClient
    _log.warning(
        "http.fallback",
        reason=f"this aiohttp lacks {missing}: requests go through ClientSession, which costs more CPU and checks the"
        " lease a moment earlier; install an aiohttp that pyproject.toml allows",
    )
    return SessionClient
