"""The watch over the admin ports is itself watched: it hears every path, and says what it did not hear."""

import asyncio
from typing import Any

from aiohttp import web

from tests.chaos.served import PATHS, Served
from tests.waiting import wait_until


class _Instance:
    def __init__(self, port: int) -> None:
        self._port = port

    def events(self, _name: str) -> list[dict[str, Any]]:
        return [{"port": self._port}]


class _Group(dict[str, _Instance]):
    names = property(list)


async def test_every_path_is_heard_and_a_sentinel_that_is_not_0_is_a_finding() -> None:
    bodies = dict.fromkeys(PATHS, "data: kari@example.no\n\n")
    bodies["/metrics"] = "# HELP x_violations_total no\norder_violations_total 0.0\ncommit_violations_total 1.0\n"

    async def answer(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(2 if request.path == "/livez" else 0)  # longer than the watch has patience
        return web.Response(text=bodies[request.path])

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served = Served(_Group(one=_Instance(runner.addresses[0][1])))  # type: ignore[arg-type]
    watch = asyncio.create_task(served.run())
    await wait_until(lambda: len(served.texts["/status"]) > 1, what="a second round")
    watch.cancel()
    await asyncio.wait([watch])
    await runner.cleanup()
    assert served.findings() == ["/livez was never served", "a sentinel says commit_violations_total 1.0"]
    assert set(served.texts["/events"]) == {bodies["/events"]}
