import asyncio
from typing import Any

from tests.benchmarks.bare import work_off


class Calls:
    """Takes a turn of the loop for each sync."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.most = 0
        self.done: list[str] = []

    async def sync(self, user_id: str) -> None:
        assert user_id not in self.running
        self.running.add(user_id)
        self.most = max(self.most, len(self.running))
        await asyncio.sleep(0)
        self.running.remove(user_id)
        self.done.append(user_id)


async def test_the_bare_client_syncs_once_for_each_event_and_one_user_never_twice_at_once() -> None:
    calls: Any = Calls()
    await work_off(["a", "b", "c", "a", "a", "b"], calls, 2)
    assert sorted(calls.done) == ["a", "a", "a", "b", "b", "c"]
    assert calls.most == 2
