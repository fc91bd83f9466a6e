"""What is exported is what the structs say, and says the same as the decoders."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from aiokafka.structs import RecordMetadata

from consumer.ops.metrics import Metrics
from consumer.stream.dead_letters import DeadLetterTopic, Letter
from schemas import export
from schemas.events import MalformedEvent, decode_event
from schemas.export import DEAD_LETTER_HEADERS, FOLDER, asyncapi, documents

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

DOCUMENTS = documents()
EVENT_SCHEMA = json.loads((FOLDER / "json/event.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_files_are_those_of_the_structs(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == DOCUMENTS[path], "make them anew: .venv/bin/python -m schemas.export"


def test_p13_descriptions_are_the_same_whatever_python_does_to_docstrings() -> None:
    indented = {
        "description": "One.\n\n    Two:\n        deep.\n    ",
        "properties": {"description": {"a": ["x\n    y"]}},
    }
    dedented = {"description": "One.\n\nTwo:\n    deep.", "properties": {"description": {"a": ["x\n    y"]}}}
    assert export._dedented(indented) == export._dedented(dedented) == dedented


def test_no_file_is_left_over() -> None:
    assert {*FOLDER.glob("json/*"), *FOLDER.glob("*.yaml")} == set(DOCUMENTS)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("json/*.json")), ids=lambda path: path.name)
def test_each_is_a_json_schema_with_its_references_inside(path: Path) -> None:
    schema = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    for reference in _references(schema):
        assert _found(schema, reference)


EVENT = {"eventType": "contract.1#update", "vendorId": "vendor_123", "userId": "email|84cc"}


@pytest.mark.parametrize(
    "value",
    [
        EVENT,
        EVENT | {"contractId": "c", "entitlementId": None, "checkoutId": "", "occured_at": "2025-11-10T12:00:00Z"},
        EVENT | {"unknown": {"to": ["us"]}},
        EVENT | {"userId": ""},
        EVENT | {"userId": 7},
        EVENT | {"vendorId": None},
        EVENT | {"contractId": 7},
        {"eventType": "x", "vendorId": "y"},
        [],
        "event",
        None,
    ],
    ids=repr,
)
def test_the_schema_takes_the_events_that_the_service_takes(value: Any) -> None:
    try:
        decode_event(json.dumps(value).encode())
        taken = True
    except MalformedEvent:
        taken = False
    assert jsonschema.Draft202012Validator(EVENT_SCHEMA).is_valid(value) is taken


def test_the_yaml_is_the_document_and_every_reference_leads_somewhere() -> None:
    document = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))
    assert document == asyncapi()
    references = list(_references(document))
    assert references
    for reference in references:
        assert _found(document, reference)


def test_the_examples_are_events() -> None:
    messages = asyncapi()["components"]["messages"].values()
    payloads = [example["payload"] for message in messages for example in message.get("examples", [])]
    assert len(payloads) == 2
    for payload in payloads:
        decode_event(json.dumps(payload).encode())


async def test_a_dead_letter_has_the_headers_that_are_listed() -> None:
    sent: list[tuple[str, bytes]] = []

    class Producer:
        async def send_and_wait(
            self, topic: str, value: bytes | None, *, key: bytes | None, headers: list[tuple[str, bytes]]
        ) -> RecordMetadata | None:
            sent.extend(headers)
            return None

    topic = DeadLetterTopic(
        lambda: nullcontext(cast("AIOKafkaProducer", Producer())), "dead", metrics=Metrics(), wall_clock=lambda: 0.0
    )
    letter = Letter(topic="events", partition=0, offset=1, key=b"u", value=None, truncated=True)
    await topic.store(letter, "malformed", "not JSON", 1)
    assert [name for name, _ in sent] == list(DEAD_LETTER_HEADERS)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in value.items():
            if key == "$ref":
                yield part
            else:
                yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)


def _found(document: Any, reference: str) -> bool:
    for key in reference.removeprefix("#/").split("/"):
        if key not in document:
            return False
        document = document[key]
    return True
