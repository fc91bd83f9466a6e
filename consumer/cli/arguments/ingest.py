"""The arguments of `ingest`."""

import argparse

_EPILOG = """\
example:
  INGEST_SECRET_FILE=/run/secrets/webhook sesamy-mailmojo ingest --config /etc/sesamy-mailmojo.toml
  curl -i http://127.0.0.1:8090/events -H "X-Webhook-Secret: $(cat /run/secrets/webhook)" -H 'Content-Type: application/json' \\
    -d '{"eventType": "contract.1#update", "vendorId": "vendor_123", "userId": "email|84cccf985de28a2a84824786"}'

POST /events answers 202 once the broker has the event, 400 for what is no event, 401 without the secret, 413 and 415
for a body that is too large or not JSON, 503 with Retry-After when the broker cannot take it now.
/livez, /readyz and /metrics are on the admin port (ADMIN_HOST, ADMIN_PORT).

settings: KAFKA_*, INGEST_*, ADMIN_*, LOG_*, SHUTDOWN_TIMEOUT; `sesamy-mailmojo run --help` lists them. INGEST_SECRET
is required; as a file (INGEST_SECRET_FILE) it can be changed while this runs.
"""  # noqa: E501 - a command to copy


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, and what `--help` says of the command."""
    parser.description = (
        "Takes Sesamy's webhooks over HTTP and writes them to the topic, until SIGTERM, SIGINT or SIGHUP."
    )
    parser.epilog = _EPILOG
