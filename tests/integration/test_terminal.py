"""What a terminal would act upon, in records of others: the commands show it, and do nothing of it (P6)."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from tests.integration.stage import Stage, event, stop
from tests.kafka_client import Message
from tests.waiting import wait_until

HOSTILE = "x\x1b[2J\x1b]0;t\x07\r\nforged\x7f\x9b\u202e\u2028"


async def with_a_hostile_dead_letter(stage: Stage) -> None:
    service = await stage.service()
    value = json.dumps({"eventType": HOSTILE, "vendorId": 7, "userId": HOSTILE}, ensure_ascii=False).encode()
    await stage.send(Message(HOSTILE.encode(), value, headers=((HOSTILE, HOSTILE.encode()),)), event("u"))

    async def is_stored() -> bool:
        return bool(await stage.dead_letters())

    await wait_until(is_stored, what="the record is a dead letter")
    await stop(service)
    assert all(char.isprintable() or char == "\n" for char in service.output())


@pytest.mark.parametrize("options", [[], ["--unmasked"], ["--json"], ["--json", "--unmasked"]])
async def test_p6_dead_letters_are_shown_without_control_characters(stage: Stage, options: list[str]) -> None:
    await with_a_hostile_dead_letter(stage)
    (letter,) = await stage.dead_letters()
    for command in (["list"], ["show", f"{letter.partition}:{letter.offset}"]):
        shown = await stage.finish("dead-letters", *command, *options)
        assert shown.returncode == 0, shown.output()
        assert shown.stdout.read_text(encoding="utf-8")
        assert all(char.isprintable() or char == "\n" for char in shown.output())
        assert not any(line.startswith("forged") for line in shown.output().splitlines())


async def test_p10_an_export_to_a_full_disk_names_standard_output(stage: Stage) -> None:
    await with_a_hostile_dead_letter(stage)
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123 - a device
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "consumer", "dead-letters", "export"),
            stdout=full,
            stderr=subprocess.PIPE,
            env={**{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}, **stage.settings},
        )
        _, said = await process.communicate()
    assert process.returncode == 1
    assert said.decode().splitlines()[-1] == (
        "sesamy-mailmojo: cannot write to standard output: No space left on device"
    )
