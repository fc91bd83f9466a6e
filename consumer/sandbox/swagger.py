"""The Swagger 2.0 document at Mailmojo's API root, as far as a client may look into it: paths and their methods."""

from typing import Any

FIELDS_PATH = "/v1/fields/"
FIELDS_ELSEWHERE = "/v1/account/custom-fields/"

_PATHS = {
    "/v1/contacts/{email}/": ("get", "patch"),
    "/v1/lists/": ("get",),
    "/v1/lists/{list_id}/": ("get",),
    "/v1/lists/{list_id}/subscribers/": ("get", "post"),
    "/v1/lists/{list_id}/subscribers/import/": ("post",),
    "/v1/lists/{list_id}/subscribers/{email}/": ("get", "delete"),
    "/v1/lists/{list_id}/unsubscribed/": ("get",),
}
# Paths that contain `field` and are no collection of account fields: one cannot be created there.
_LOOKALIKES = {"/v1/fieldtypes/": ("get",)}


def document(fields_path: str | None, base: str) -> dict[str, Any]:
    """Return the document; `base` is `root` or `v1`, `fields_path` None when there is no such endpoint."""
    paths = _PATHS | _LOOKALIKES
    if fields_path is not None:
        paths |= {fields_path + "{field_id}/": ("get",), fields_path: ("get", "post")}
    prefix = "/v1" if base == "v1" else ""
    return {
        "swagger": "2.0",
        "info": {"title": "Mailmojo (a fake)", "version": "v1"},
        "basePath": prefix or "/",
        "paths": {
            path.removeprefix(prefix): {method: {"responses": {"200": {"description": "OK"}}} for method in methods}
            for path, methods in paths.items()
        },
    }
