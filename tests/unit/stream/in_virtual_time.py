"""A test that is a coroutine, run where waiting takes no time."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from tests.unit import virtual_time

P = ParamSpec("P")


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test from time 0 on; `asyncio.get_running_loop().time()` tells the time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        virtual_time.run(test(*args, **kwargs))

    return run
