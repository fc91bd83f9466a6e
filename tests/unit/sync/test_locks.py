import asyncio

import pytest

from consumer.sync.locks import AddressLocks
from tests.unit.stream.in_virtual_time import in_virtual_time


class Writers:
    def __init__(self) -> None:
        self.locks = AddressLocks()
        self.log: list[tuple[float, str]] = []
        self.open: dict[str, int] = {}

    async def write(self, name: str, address: str) -> None:
        async with self.locks.hold(address):
            assert not self.open.get(address)
            self.open[address] = 1
            self.log.append((asyncio.get_running_loop().time(), name))
            try:
                await asyncio.sleep(1)
            finally:
                self.open[address] = 0


@in_virtual_time
async def test_one_address_has_one_writer_at_a_time_in_the_order_of_asking() -> None:
    writers = Writers()

    await asyncio.gather(*(writers.write(name, "a@example.com") for name in "abc"))

    assert writers.log == [(0, "a"), (1, "b"), (2, "c")]


@in_virtual_time
async def test_other_addresses_do_not_wait() -> None:
    writers = Writers()

    await asyncio.gather(*(writers.write(name, f"{name}@example.com") for name in "abc"))

    assert writers.log == [(0, "a"), (0, "b"), (0, "c")]


@in_virtual_time
async def test_a_holder_and_a_waiter_may_be_cancelled_and_nothing_is_left() -> None:
    writers = Writers()
    tasks = [asyncio.create_task(writers.write(name, "a@example.com")) for name in "abcd"]
    await asyncio.sleep(0.5)
    tasks[1].cancel()
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert writers.log == [(0, "a"), (0.5, "c"), (1.5, "d")]
    assert not writers.locks._locks


@in_virtual_time
async def test_a_failing_write_gives_the_address_back() -> None:
    locks = AddressLocks()
    with pytest.raises(ZeroDivisionError):
        async with locks.hold("a@example.com"):
            raise ZeroDivisionError

    assert not locks._locks
