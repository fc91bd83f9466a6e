"""Removes a part of aiohttp that `consumer/clients/http.py` needs, in every process with this folder on PYTHONPATH.

`make test-fallback` runs the suite this way: the tests and every process that they start send through `ClientSession`,
as with an aiohttp that lacks the part. `ClientSession` itself does not need it by this name.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

PART = "ClientRequest"


class _Finder(MetaPathFinder):
    """Removes the part as soon as aiohttp is imported; importing it here would slow down every process."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "aiohttp":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_without_the_part(module: ModuleType) -> None:
                execute(module)
                delattr(module, PART)

            spec.loader.exec_module = execute_without_the_part  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Finder())
