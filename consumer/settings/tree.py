"""The table of settings of `docs/contract.md`: a field's name is its TOML key, its default is the default.

What else is known of a setting stands in its annotation; `table()` gives it all as rows, for the loader, `--help`
and the docs.
"""

import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, get_args, get_type_hints
from zoneinfo import ZoneInfo

from msgspec import NODEFAULT, Struct, field
from msgspec.structs import fields, force_setattr

from consumer.secret import Secret
from consumer.settings import parsers, urls
from consumer.settings.proxies import Proxies


class Setting(Struct, frozen=True):
    """What is known of one setting besides its name and default."""

    env: str
    parse: parsers.Parser
    meaning: str
    required: bool = False
    many: bool = False
    """Whether a TOML array is taken for comma-separated text."""
    shown_default: str | None = None
    """For a default that is computed."""


_TOPIC = parsers.matching(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}", "a topic name: letters, digits, dots, _ and -")
_DAY = 86400.0


class KafkaSettings(Struct, frozen=True, kw_only=True):
    """`kafka.*`: the topic, the group and the connection."""

    bootstrap_servers: Annotated[
        str, Setting("KAFKA_BOOTSTRAP_SERVERS", urls.servers, "where to find the brokers, host:port,…", many=True)
    ] = "localhost:9092"
    topic: Annotated[str, Setting("KAFKA_TOPIC", _TOPIC, "the topic of events")] = "sesamy.events"
    group_id: Annotated[str, Setting("KAFKA_GROUP_ID", parsers.text, "the consumer group")] = "sesamy-mailmojo"
    client_id: Annotated[
        str, Setting("KAFKA_CLIENT_ID", parsers.text, "this instance's name at the brokers", shown_default="host name")
    ] = field(default_factory=socket.gethostname)
    dead_letter_topic: Annotated[
        str,
        Setting("KAFKA_DEAD_LETTER_TOPIC", _TOPIC, "where failed events go", shown_default="<topic>.dead-letters"),
    ] = ""
    auto_offset_reset: Annotated[
        str, Setting("KAFKA_AUTO_OFFSET_RESET", parsers.one_of("earliest", "latest"), "where a new group starts")
    ] = "earliest"
    isolation_level: Annotated[
        str,
        Setting(
            "KAFKA_ISOLATION_LEVEL",
            parsers.one_of("read_committed", "read_uncommitted"),
            "whether to wait for transactions of producers",
        ),
    ] = "read_committed"
    # At least 6 s: writes stop a write time-out (5 s) and a margin before the session could end (P2 in
    # `docs/guarantees.md`), so less leaves no time to write in; both bounds are also the defaults of the brokers.
    session_timeout: Annotated[
        float, Setting("KAFKA_SESSION_TIMEOUT", parsers.number(6, 1800), "seconds until a silent instance is replaced")
    ] = 30.0
    value_pointer: Annotated[
        str | None,
        Setting("KAFKA_VALUE_POINTER", parsers.json_pointer, "JSON pointer to the event in an envelope, as /data"),
    ] = None
    security_protocol: Annotated[
        str,
        Setting(
            "KAFKA_SECURITY_PROTOCOL",
            parsers.one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
            "how to talk to the brokers",
        ),
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        str | None,
        Setting(
            "KAFKA_SASL_MECHANISM",
            parsers.one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
            "how to log in, with SASL_*",
        ),
    ] = None
    sasl_username: Annotated[str | None, Setting("KAFKA_SASL_USERNAME", parsers.text, "the name to log in with")] = None
    sasl_password: Annotated[Secret, Setting("KAFKA_SASL_PASSWORD", Secret, "the password")] = field(
        default_factory=Secret
    )
    ssl_cafile: Annotated[
        Path | None, Setting("KAFKA_SSL_CAFILE", parsers.existing_file, "the authorities to trust (PEM)")
    ] = None
    ssl_certfile: Annotated[
        Path | None, Setting("KAFKA_SSL_CERTFILE", parsers.existing_file, "our certificate (PEM)")
    ] = None
    ssl_keyfile: Annotated[Path | None, Setting("KAFKA_SSL_KEYFILE", parsers.existing_file, "its key (PEM)")] = None

    def __post_init__(self) -> None:
        if not self.dead_letter_topic:
            force_setattr(self, "dead_letter_topic", f"{self.topic}.dead-letters")


class SesamySettings(Struct, frozen=True, kw_only=True):
    """`sesamy.*`: the Management API and the vendor's credentials for it (`docs/reference/sesamy.md`)."""

    vendor_id: Annotated[str | None, Setting("SESAMY_VENDOR_ID", parsers.text, "skip events of other vendors")] = None
    api_url: Annotated[str, Setting("SESAMY_API_URL", urls.base_url, "the Management API")] = "https://api2.sesamy.com"
    token_url: Annotated[str, Setting("SESAMY_TOKEN_URL", urls.url, "where tokens come from")] = (
        "https://token.sesamy.com/oauth/token"  # noqa: S105 - an address
    )
    client_id: Annotated[str, Setting("SESAMY_CLIENT_ID", parsers.text, "the client's id", required=True)] = ""
    client_secret: Annotated[Secret, Setting("SESAMY_CLIENT_SECRET", Secret, "the client's secret", required=True)] = (
        field(default_factory=Secret)
    )
    audience: Annotated[str | None, Setting("SESAMY_AUDIENCE", parsers.text, "the token's audience")] = None
    requests_per_minute: Annotated[
        float, Setting("SESAMY_REQUESTS_PER_MINUTE", parsers.number(0.01, 1e6), "the account's quota")
    ] = 100.0
    burst: Annotated[int, Setting("SESAMY_BURST", parsers.whole(1, 1_000_000), "how many of them at once")] = 20


class MailmojoSettings(Struct, frozen=True, kw_only=True):
    """`mailmojo.*`: the account and its list (`docs/reference/mailmojo.md`)."""

    api_token: Annotated[Secret, Setting("MAILMOJO_API_TOKEN", Secret, "the account's API token", required=True)] = (
        field(default_factory=Secret)
    )
    list_id: Annotated[
        str,
        Setting(
            "MAILMOJO_LIST_ID", parsers.matching(r"[A-Za-z0-9_-]+", "a list's id"), "the list to keep", required=True
        ),
    ] = ""
    api_url: Annotated[str, Setting("MAILMOJO_API_URL", urls.base_url, "the API")] = "https://api.mailmojo.no"
    fields_path: Annotated[
        str,
        Setting(
            "MAILMOJO_FIELDS_PATH",
            parsers.matching(r"(/[\w.~%-]+)+/?", "a path such as /v1/fields/"),
            "where account fields are listed and created",
        ),
    ] = "/v1/fields/"
    clear_value: Annotated[
        str, Setting("MAILMOJO_CLEAR_VALUE", parsers.one_of("null", "empty"), "what clears a field")
    ] = "null"
    requests_per_second: Annotated[
        float, Setting("MAILMOJO_REQUESTS_PER_SECOND", parsers.number(0.01, 1e5), "the account's quota")
    ] = 5.0
    burst: Annotated[int, Setting("MAILMOJO_BURST", parsers.whole(1, 1_000_000), "how many of them at once")] = 5


class SyncSettings(Struct, frozen=True, kw_only=True):
    """`sync.*`: how events become syncs. Durations are seconds."""

    concurrency: Annotated[int, Setting("SYNC_CONCURRENCY", parsers.whole(1, 10_000), "users synced at a time")] = 64
    linger: Annotated[
        float,
        Setting(
            "SYNC_LINGER", parsers.number(0, 3600), "coalescing window in seconds, from the user's oldest pending event"
        ),
    ] = 2.0
    coalesce: Annotated[bool, Setting("SYNC_COALESCE", parsers.flag, "one sync for all of a user's waiting events")] = (
        True
    )
    max_pending: Annotated[
        int,
        Setting(
            "SYNC_MAX_PENDING",
            parsers.whole(1, 10_000_000),
            "waiting events held in memory, besides those of users that fail",
        ),
    ] = 100_000
    max_attempts: Annotated[
        int, Setting("SYNC_MAX_ATTEMPTS", parsers.whole(1, 1_000_000), "tries before a dead letter")
    ] = 10
    retry_base: Annotated[
        float, Setting("SYNC_RETRY_BASE", parsers.number(0.001, _DAY), "seconds before a second try, doubled each time")
    ] = 1.0
    retry_cap: Annotated[
        float, Setting("SYNC_RETRY_CAP", parsers.number(0.001, _DAY), "seconds between tries at most")
    ] = 60.0
    time_zone: Annotated[
        ZoneInfo, Setting("SYNC_TIME_ZONE", parsers.time_zone, "the zone of dates in fields", shown_default="UTC")
    ] = field(default_factory=lambda: ZoneInfo("UTC"))
    guest_prefixes: Annotated[
        tuple[str, ...],
        Setting("SYNC_GUEST_PREFIXES", parsers.words, "user ids of guests start with one of these", many=True),
    ] = ("guest|", "anonymous|")
    dry_run: Annotated[
        bool, Setting("SYNC_DRY_RUN", parsers.flag, "read, plan and log under a group of its own; write nothing")
    ] = False
    shutdown_timeout: Annotated[
        float, Setting("SHUTDOWN_TIMEOUT", parsers.number(0.1, 3600), "seconds to finish in when stopped")
    ] = 20.0


class AdminSettings(Struct, frozen=True, kw_only=True):
    """`admin.*`: the port for probes, metrics and the status page."""

    host: Annotated[str, Setting("ADMIN_HOST", urls.host, "the address to listen on")] = "127.0.0.1"
    port: Annotated[int, Setting("ADMIN_PORT", parsers.whole(0, 65535), "the port; 0 is any free one, logged")] = 8080
    allowed_hosts: Annotated[
        tuple[str, ...],
        Setting(
            "ADMIN_ALLOWED_HOSTS",
            parsers.hosts,
            "host names, .example.no for all below it, that requests may name besides addresses and localhost",
            many=True,
        ),
    ] = ()


class IngestSettings(Struct, frozen=True, kw_only=True):
    """`ingest.*`: the endpoint that takes webhooks; only `ingest` needs them."""

    host: Annotated[str, Setting("INGEST_HOST", urls.host, "the address that `ingest` listens on")] = "127.0.0.1"
    port: Annotated[int, Setting("INGEST_PORT", parsers.whole(0, 65535), "its port; 0 is any free one, logged")] = 8090
    header: Annotated[
        str,
        Setting(
            "INGEST_HEADER",
            parsers.matching(r"[A-Za-z0-9-]{1,100}", "a header's name: letters, digits and -"),
            "the header that carries the webhooks' secret",
        ),
    ] = "X-Webhook-Secret"
    secret: Annotated[
        Secret, Setting("INGEST_SECRET", Secret, "what that header must hold; for `ingest` alone", required=True)
    ] = field(default_factory=Secret)
    # A record must fit into a request to the broker (1 MiB), and later, with more headers, into the dead-letter topic.
    max_body: Annotated[int, Setting("INGEST_MAX_BODY", parsers.whole(256, 900_000), "bytes of a webhook at most")] = (
        65_536
    )


class LogSettings(Struct, frozen=True, kw_only=True):
    """`log.*`."""

    level: Annotated[
        str, Setting("LOG_LEVEL", parsers.one_of("debug", "info", "warning", "error"), "the least level logged")
    ] = "info"
    format: Annotated[
        str,
        Setting(
            "LOG_FORMAT",
            parsers.one_of("console", "json"),
            "for people or for machines",
            shown_default="console on a terminal, else json",
        ),
    ] = field(default_factory=lambda: "console" if sys.stderr.isatty() else "json")


class Settings(Struct, frozen=True, kw_only=True):
    """All settings, checked; unset ones at their defaults."""

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    sesamy: SesamySettings = field(default_factory=SesamySettings)
    mailmojo: MailmojoSettings = field(default_factory=MailmojoSettings)
    sync: SyncSettings = field(default_factory=SyncSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    log: LogSettings = field(default_factory=LogSettings)
    doubts: tuple[str, ...] = ()
    """What is likely a mistake though it is allowed, one line each; no setting itself."""
    sources: Mapping[str, str] = {}
    """Where each setting comes from that is given: TOML key to the variable, or to the key and its file."""
    proxies: Proxies = Proxies()

    @property
    def group_id(self) -> str:
        """The consumer group in effect: a dry run has its own, so that it takes no events from the service."""
        return f"{self.kafka.group_id}.dry-run" if self.sync.dry_run else self.kafka.group_id


class Row(Struct, frozen=True):
    """One line of the table."""

    section: str
    key: str
    setting: Setting
    default: object
    """NODEFAULT where it is computed."""

    @property
    def toml(self) -> str:
        """The TOML key with its table."""
        return f"{self.section}.{self.key}"

    @property
    def secret(self) -> bool:
        """Whether it may also be given as a file, and is never shown."""
        return self.setting.parse is Secret

    @property
    def shown_default(self) -> str:
        """The default for people to read; empty when there is none."""
        if self.setting.required:
            return "required"
        if self.setting.shown_default is not None:
            return self.setting.shown_default
        if self.default in {None, NODEFAULT}:
            return ""
        if isinstance(self.default, tuple):
            return ",".join(self.default)
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


SECTIONS: dict[str, type[Struct]] = {
    "kafka": KafkaSettings,
    "sesamy": SesamySettings,
    "mailmojo": MailmojoSettings,
    "sync": SyncSettings,
    "admin": AdminSettings,
    "ingest": IngestSettings,
    "log": LogSettings,
}


def table() -> Iterator[Row]:
    """Yield every setting, in the order of the contract."""
    for section, struct in SECTIONS.items():
        hints = get_type_hints(struct, include_extras=True)
        for info in fields(struct):
            setting = get_args(hints[info.name])[-1]
            yield Row(section, info.name, setting, info.default)
