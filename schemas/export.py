"""Writes what the structs say for others to read: `python -m schemas.export` (PyYAML is among the `dev` extras).

`asyncapi.yaml` describes the topics, `json/*.json` every shape by itself. A struct says what is read, no more: other
keys are ignored, and what answers of the APIs may leave out or blank is in `schemas.decoding`.
"""

import json
import sys
from inspect import cleandoc
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from schemas import mailmojo, sesamy
from schemas.events import STANDARD_EVENT_TYPES, SYNC_REQUEST, Event

FOLDER: Final = Path(__file__).parent

STRUCTS: Final[dict[str, type[Struct]]] = {
    "event": Event,
    "sesamy-profile": sesamy.Profile,
    "sesamy-contract": sesamy.Contract,
    "sesamy-entitlement": sesamy.Entitlement,
    "sesamy-transaction": sesamy.Transaction,
    "sesamy-token": sesamy.Token,
    "mailmojo-contact": mailmojo.Contact,
    "mailmojo-account-field": mailmojo.AccountField,
}
"""File names of the JSON Schemas, and what they describe."""

DEAD_LETTER_HEADERS: Final = {
    "dead-letter-reason": "malformed, rejected or exhausted",
    "dead-letter-error": "what was wrong, without personal data",
    "dead-letter-topic": "where the record was",
    "dead-letter-partition": "its partition there",
    "dead-letter-offset": "its offset there",
    "dead-letter-attempts": "how often it was tried",
    "dead-letter-at": "when it became a dead letter, ISO 8601",
    "dead-letter-truncated": "true where the value was too large to be stored again and is left out",
}
"""Headers of a dead letter (`docs/contract.md`, the topic), as text. The last one is there only when it is true."""

_EXAMPLE: Final = {
    "eventType": "contract.1#update",
    "vendorId": "vendor_123",
    "userId": "email|84cccf985de28a2a84824786",
    "contractId": "contract_789",
    "entitlementId": None,
    "checkoutId": None,
    "occured_at": "2025-11-10T12:00:00Z",
}


def documents() -> dict[Path, str]:
    """Return the text of every exported file, by its path."""
    files = {FOLDER / "json" / f"{name}.json": _json_schema(struct) for name, struct in STRUCTS.items()}
    files[FOLDER / "asyncapi.yaml"] = _asyncapi_yaml()
    return files


def _json_schema(struct: type[Struct]) -> str:
    _, components = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    components = _dedented(components)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **components.pop(struct.__name__)}
    if components:
        schema["$defs"] = components
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _dedented(value: Any) -> Any:
    """Return the schema with descriptions as they read: Python 3.13 takes their indentation away, 3.12 does not."""
    if isinstance(value, dict):
        return {
            key: cleandoc(part) if key == "description" and isinstance(part, str) else _dedented(part)
            for key, part in value.items()
        }
    return [_dedented(part) for part in value] if isinstance(value, list) else value


def _asyncapi_yaml() -> str:
    import yaml  # noqa: PLC0415 - the program itself reads no YAML

    head = "# Made from the structs by `python -m schemas.export`; a test keeps it equal.\n"
    return head + yaml.safe_dump(asyncapi(), sort_keys=False, allow_unicode=True, width=120)


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3 document of the topics."""
    _, components = msgspec.json.schema_components([Event], ref_template="#/components/schemas/{name}")
    components = _dedented(components)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "sesamy-mailmojo",
            "version": "1.0.0",
            "description": "The topics that keep Mailmojo contacts in step with Sesamy: events in, dead letters out.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "events": {
                "address": "sesamy.events",
                "description": "KAFKA_TOPIC. The key is the user id, placed by murmur2 as Java's producer does, so "
                "that a user's events share a partition. A Confluent prefix before the JSON is skipped, and "
                "KAFKA_VALUE_POINTER finds the event inside an envelope. A null value is skipped.",
                "messages": {
                    "event": {"$ref": "#/components/messages/event"},
                    "syncRequest": {"$ref": "#/components/messages/syncRequest"},
                },
                "bindings": _kafka(topic="sesamy.events"),
            },
            "deadLetters": {
                "address": "sesamy.events.dead-letters",
                "description": "KAFKA_DEAD_LETTER_TOPIC. Records that cannot be synced: key, value and headers as they "
                "were, and headers that say why.",
                "messages": {"deadLetter": {"$ref": "#/components/messages/deadLetter"}},
                "bindings": _kafka(topic="sesamy.events.dead-letters"),
            },
        },
        "operations": {
            "syncUser": _operation("receive", "events", "event", "Reads the user at Sesamy and writes the contact."),
            "syncUserOnRequest": _operation("receive", "events", "syncRequest", "As for an event; events go first."),
            "ingest": _operation("send", "events", "event", "`ingest` stores each webhook as it came."),
            "requestSync": _operation("send", "events", "syncRequest", "`sync` and `backfill` ask for users."),
            "storeDeadLetter": _operation("send", "deadLetters", "deadLetter", "A record that cannot be synced."),
        },
        "components": {
            "messages": {
                "event": _message(
                    "event",
                    "Something changed for a user. It carries no state: the user is read at Sesamy. Other event types "
                    "than these are skipped.",
                    _typed(*STANDARD_EVENT_TYPES),
                    _EXAMPLE,
                ),
                "syncRequest": _message(
                    "syncRequest",
                    "Asks the running service to sync a user, whatever happened.",
                    _typed(SYNC_REQUEST),
                    {
                        "eventType": SYNC_REQUEST,
                        **{name: _EXAMPLE[name] for name in ("vendorId", "userId", "occured_at")},
                    },
                ),
                "deadLetter": {
                    "name": "deadLetter",
                    "summary": "A record that could not be synced, and why. The value is as it was, JSON or not.",
                    "contentType": "application/octet-stream",
                    "headers": {
                        "type": "object",
                        "required": [name for name in DEAD_LETTER_HEADERS if not name.endswith("truncated")],
                        "properties": {
                            name: {"type": "string", "description": meaning}
                            for name, meaning in DEAD_LETTER_HEADERS.items()
                        },
                    },
                    "payload": {},
                    "bindings": _kafka(key={"type": "string", "description": "as it was, usually the user id"}),
                },
            },
            "schemas": components,
        },
    }


def _kafka(**binding: Any) -> dict[str, Any]:
    return {"kafka": {**binding, "bindingVersion": "0.5.0"}}


def _operation(action: str, channel: str, message: str, summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _message(name: str, summary: str, payload: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "summary": summary,
        "payload": payload,
        "bindings": _kafka(key={"type": "string", "description": "the user id"}),
        "examples": [{"payload": example}],
    }


def _typed(*types: str) -> dict[str, Any]:
    narrowed = {"type": "object", "properties": {"eventType": {"enum": list(types)}}}
    return {"allOf": [{"$ref": "#/components/schemas/Event"}, narrowed]}


def main() -> None:
    """Write every file anew and name those that changed."""
    for path, text in documents().items():
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(FOLDER.parent)}\n")


if __name__ == "__main__":
    main()
