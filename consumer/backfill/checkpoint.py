"""How far a backfill came, in a file that is whole at any moment."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from consumer import files
from consumer.failure import Failure
from consumer.settings import Settings


class Checkpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The users that are done, the first `offset` of them, and what for: another tenant or topic begins anew."""

    api_url: str
    client_id: str
    topic: str
    offset: int = 0
    counts: Mapping[str, int] = {}


def first(settings: Settings) -> Checkpoint:
    """Return the checkpoint of a backfill that has not begun."""
    return Checkpoint(api_url=settings.sesamy.api_url, client_id=settings.sesamy.client_id, topic=settings.kafka.topic)


def load(path: Path, settings: Settings) -> Checkpoint:
    """Return the file's checkpoint, or the first one where there is no file.

    Raises:
        Failure: it cannot be read, could not be written, is a symbolic link, or belongs to something else.
    """
    fresh = first(settings)
    try:
        files.check_replaceable(path)
        if not path.exists():
            return fresh
        found = msgspec.json.decode(path.read_bytes(), type=Checkpoint)
    except OSError as error:
        raise Failure(f"--checkpoint {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Failure(f"--checkpoint {path} is no checkpoint; delete it to begin anew") from error
    for name in ("api_url", "client_id", "topic"):
        if getattr(found, name) != getattr(fresh, name):
            raise Failure(
                f"--checkpoint {path} is of another {name.replace('_', ' ')}; delete it to begin anew, or name another"
            )
    return found


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file, so that whoever reads it finds the old one or the new one, also after a crash.

    Raises:
        Failure: it cannot be written.
    """
    try:
        files.replace(path, msgspec.json.encode(checkpoint) + b"\n")
    except OSError as error:
        raise Failure(f"--checkpoint {path}: {error.strerror}") from error
