"""Looks into Mailmojo's Swagger 2.0 document for the path of account fields, which no public source has."""

import re
from typing import Any

_PATH = re.compile(r"(/[\w.~%-]+)+/?", re.ASCII)


def fields_path(document: Any) -> str | None:
    """Return the collection path that contains `field` and has both get and post, or None.

    Only a path is taken, never `host` or `schemes`: whatever the document says, requests go to the API they go to
    anyway, and the token with them. Of several the shortest wins.
    """
    if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
        return None
    base = document.get("basePath")
    base = base.rstrip("/") if isinstance(base, str) else ""
    candidates = [
        base + path
        for path, methods in document["paths"].items()
        if "field" in path.lower() and isinstance(methods, dict) and {"get", "post"} <= methods.keys()
    ]
    usable = [path for path in candidates if _PATH.fullmatch(path) and not {".", ".."} & set(path.split("/"))]
    return min(usable, key=lambda path: (len(path), path), default=None)
