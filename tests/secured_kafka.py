"""A real broker that is guarded in every way at once: logins, TLS, client certificates, permissions."""

from collections.abc import Iterable
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.certificates import Authority
from tests.kafka_broker import KafkaBroker

USER, PASSWORD = "mailmojo-sync", "correct horse battery"
STRANGER = "stranger"
"""Logs in with the same password, and may do nothing."""

_LOGIN = "org.apache.kafka.common.security"
_LOGINS = {
    "scram-sha-512": f"{_LOGIN}.scram.ScramLoginModule required;",
    "scram-sha-256": f"{_LOGIN}.scram.ScramLoginModule required;",
    "plain": f'{_LOGIN}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
}


class SecuredKafka:
    """The broker, not started, and the settings that its clients need.

    Listeners: `PLAINTEXT`, where everything is allowed; `SECURE` (SASL_SSL), with every login there is; `MISNAMED`, the
    same with the certificate of another host; `BARE` (SASL_PLAINTEXT), with SCRAM-SHA-512 alone; `MUTUAL` (SSL), for
    client certificates.
    """

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        here = authority.issue("server", "DNS:localhost,IP:127.0.0.1")
        elsewhere = authority.issue("elsewhere", "DNS:kafka.example.org")
        self.authority = authority.certificate
        self.client_certificate = authority.issue("client", f"DNS:{USER}")
        self._password = folder / "password"
        self._password.write_text(f"{PASSWORD}\n")
        self._password.chmod(0o600)
        self.broker = KafkaBroker(
            {
                "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN",
                "listener.name.bare.sasl.enabled.mechanisms": "SCRAM-SHA-512",
                **{
                    f"listener.name.{listener}.{mechanism}.sasl.jaas.config": login
                    for listener in ("secure", "misnamed", "bare")
                    for mechanism, login in _LOGINS.items()
                },
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(here),
                "listener.name.misnamed.ssl.keystore.location": str(elsewhere),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(self.authority),
                "listener.name.mutual.ssl.client.auth": "required",
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": f"User:ANONYMOUS;User:{USER};User:CN=client",
            },
            listeners={"SECURE": "SASL_SSL", "MISNAMED": "SASL_SSL", "BARE": "SASL_PLAINTEXT", "MUTUAL": "SSL"},
            scram=[
                f"{mechanism}=[name={user},password={PASSWORD}]"
                for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256")
                for user in (USER, STRANGER)
            ],
        )

    @property
    def settings(self) -> dict[str, str]:
        """What a deployment sets that does everything right, at `SECURE`."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.broker.address("SECURE"),
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": USER,
            "KAFKA_SASL_PASSWORD_FILE": str(self._password),
            "KAFKA_SSL_CAFILE": str(self.authority),
        }


def grant(broker: KafkaBroker, permissions: Iterable[tuple[str, str, str, str]]) -> None:
    """Have the broker's authorizer allow these: user, kind of resource, its name, operation. It blocks."""
    bindings = [
        AclBinding(
            ResourceType[kind.upper().replace(" ", "_")],
            name,
            ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            AclOperation[operation.upper()],
            AclPermissionType.ALLOW,
        )
        for user, kind, name, operation in permissions
    ]
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in admin.create_acls(bindings).values():
        future.result(10)
