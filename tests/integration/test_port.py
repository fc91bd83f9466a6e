"""A port that is taken is a user's mistake like any other."""

import socket

from tests.integration.stage import Stage


async def test_an_admin_port_that_is_taken_is_said_in_one_line(stage: Stage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = await stage.finish("run", settings={"ADMIN_PORT": str(port)})
    assert ended.returncode == 1
    (line,) = [line for line in ended.output().splitlines() if line.startswith("sesamy-mailmojo:")]
    assert f"127.0.0.1:{port}" in line
    assert "ADMIN_PORT" in line
    assert "Traceback" not in ended.output()
