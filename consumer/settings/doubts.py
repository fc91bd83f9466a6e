"""What is allowed in the settings and yet likely a mistake: a misspelt variable, a secret that others can read."""

import difflib
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

PREFIXES: Final = ("KAFKA_", "SESAMY_", "MAILMOJO_", "SYNC_", "ADMIN_", "LOG_", "INGEST_")
"""What the names of our variables begin with. Others use some of these prefixes as well: images of Kafka, for one."""

_ALIKE: Final = 0.82
"""How similar a name must be; KAFKA_SASL_ENABLED_MECHANISMS, a broker's, is 0.816 like KAFKA_SASL_MECHANISM."""

_SERVICE_VARIABLE: Final = re.compile(
    r"\w+_SERVICE_HOST|\w+_SERVICE_PORT(_\w+)?|\w+_PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?", re.ASCII
)
_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)
_READ_OR_WRITTEN_BY_OTHERS: Final = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP


def is_of_a_service(name: str, value: str) -> bool:
    """Tell whether Kubernetes sets this variable by itself, for a Service in the same namespace.

    For a Service called `ingest` that is `INGEST_PORT=tcp://10.96.0.12:8090`: it has the name of a setting of ours.
    """
    if name.endswith("_PORT") and _SERVICE_ADDRESS.match(value.strip()):
        return True
    return _SERVICE_VARIABLE.fullmatch(name) is not None


def misspelt(environ: Mapping[str, str], known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield each variable that is none of the known ones and resembles one, with the name that is likely meant."""
    for name, value in sorted(environ.items()):
        upper = name.upper()
        if name in known or not value.strip() or not upper.startswith(PREFIXES) or is_of_a_service(name, value):
            continue
        if meant := _likely(upper, known):
            yield name, meant


def _likely(name: str, known: Collection[str]) -> str | None:
    if close := difflib.get_close_matches(name, sorted(known), n=1, cutoff=_ALIKE):
        return close[0]
    words = set(name.split("_"))
    for candidate in sorted(known, key=len):
        # A word is missing, as in KAFKA_SERVERS, or one too many, as in SYNC_LINGER_SECONDS.
        theirs = set(candidate.split("_"))
        if len(words & theirs) > 1 and (words < theirs or (theirs < words and len(words - theirs) == 1)):
            return candidate
    return None


def exposed(path: Path) -> str | None:
    """Return who else may read or change a file that holds a secret; None where nobody may, or it cannot be told."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    if not mode & _READ_OR_WRITTEN_BY_OTHERS:
        return None
    verb = "read" if mode & stat.S_IROTH else "changed"
    return f"can be {verb} by other users (mode {stat.S_IMODE(mode):04o})"
