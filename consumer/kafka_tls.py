"""TLS with the brokers: our side of it as the settings say, and what is wrong when it fails."""

import re
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from consumer.failure import Failure

if TYPE_CHECKING:
    from consumer.settings import KafkaSettings  # which loads a context to see whether its files are good

_OTHER_NAME: Final = {62, 64}
"""OpenSSL's codes (x509_vfy.h) of a certificate that names another host, or another IP address."""

_UNKNOWN_AUTHORITY: Final = {2, 18, 19, 20, 21, 27}
"""Those of one that leads to no authority we trust."""


def client_context(
    kafka: "KafkaSettings", name: Callable[[str], str] = lambda key: f"KAFKA_{key.upper()}"
) -> ssl.SSLContext:
    """Return whom to trust and what to show; the brokers' names are verified.

    `name` calls a setting, such as `ssl_cafile`, as its user does.

    Raises:
        Failure: a file holds something else than it should.
    """
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_cafile)
    except (OSError, ssl.SSLError) as error:
        if error.filename:  # of a file that no setting of ours names; the authorities' comes without
            raise Failure(f"no TLS: {error}; is that what SSLKEYLOGFILE says?") from error
        raise Failure(
            f"{name('ssl_cafile')}: {kafka.ssl_cafile} holds no certificate ({reason(error)}); "
            "give the authorities' certificates as PEM (-----BEGIN CERTIFICATE-----)"
        ) from error
    if kafka.ssl_certfile:
        try:
            # The empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile, password="")
        except (OSError, ssl.SSLError) as error:
            names = [name(key) for key in ("ssl_certfile", "ssl_keyfile") if getattr(kafka, key)]
            raise Failure(
                f"{', '.join(names)}: {kafka.ssl_certfile} is no certificate with its key ({reason(error)}); "
                "give both as PEM, without a passphrase, the key there or in KAFKA_SSL_KEYFILE"
            ) from error
    return context


def explain(kafka: "KafkaSettings", where: str, error: ssl.SSLError | ConnectionError) -> str:
    """Return one line for people: why there is no TLS with the brokers at `where`, and which settings to look at."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of Kafka at {where} {_distrust(kafka, error)}"
    if isinstance(error, ssl.SSLError) and re.search("ALERT.*(CERT|UNKNOWN_CA)", error.reason or ""):
        what = "does not accept our certificate" if kafka.ssl_certfile else "asks for a client certificate"
        return f"Kafka at {where} {what} ({reason(error)}); set KAFKA_SSL_CERTFILE to one that it knows"
    return (
        f"no TLS with Kafka at {where} ({reason(error)}): the port may speak none; use the brokers' TLS port, "
        "or set KAFKA_SECURITY_PROTOCOL to what this one speaks (PLAINTEXT, SASL_PLAINTEXT)"
    )


def _distrust(kafka: "KafkaSettings", error: ssl.SSLCertVerificationError) -> str:
    words = error.verify_message.rstrip(".")
    if error.verify_code in _OTHER_NAME:
        return f"is for another name ({words}); use a name that it holds, in KAFKA_BOOTSTRAP_SERVERS"
    if error.verify_code not in _UNKNOWN_AUTHORITY:
        return f"does not hold ({words}); renew it, and look at this machine's clock"
    if kafka.ssl_cafile is None:
        return f"is not trusted ({words}); set KAFKA_SSL_CAFILE to the certificate of the authority behind it"
    return f"is not trusted ({words}); {kafka.ssl_cafile} (KAFKA_SSL_CAFILE) must hold the authority behind it"


def reason(error: OSError) -> str:
    """Return what an error of the socket or of OpenSSL says, without its numbers and places."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, ConnectionError) and not error.strerror:
        return "it closes the connection"
    return re.sub(r"^\[SSL\] | \(_ssl\.c:\d+\)", "", error.strerror or str(error)) or type(error).__name__
