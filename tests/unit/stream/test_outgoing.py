"""What a dry run does with records that the service would store: it tells of them, and stores none."""

from typing import Any, cast

import structlog

from consumer.ops.metrics import Metrics
from consumer.settings import load
from consumer.stream.dead_letters import Letter
from consumer.stream.outgoing import open_outgoing

REQUIRED = {
    "SESAMY_CLIENT_ID": "id",
    "SESAMY_CLIENT_SECRET": "secret",
    "MAILMOJO_API_TOKEN": "token",
    "MAILMOJO_LIST_ID": "1",
}
NO_KAFKA = cast("Any", None)
"""A dry run connects no producer."""


async def test_a_dry_run_tells_of_dead_letters_and_requests_and_needs_no_producer() -> None:
    settings = load({**REQUIRED, "SYNC_DRY_RUN": "true"})
    letter = Letter(topic="t", partition=1, offset=7, key=b"k", value=b"v")
    with structlog.testing.capture_logs() as lines:
        async with open_outgoing(settings, Metrics(), NO_KAFKA, lambda: 0.0) as outgoing:
            await outgoing.dead_letters.store(letter, "rejected", "kari@example.no is refused", 2)
            await outgoing.request_sync("kari", 1)
            assert outgoing.dead_letters.problem is None
    assert [line["event"] for line in lines] == ["dead_letter.would_be_stored", "sync_request.would_be_stored"]
    assert (lines[0]["partition"], lines[0]["offset"], lines[0]["reason"]) == (1, 7, "rejected")
    assert "kari@example.no" not in lines[0]["error"]
