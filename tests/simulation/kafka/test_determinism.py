import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from aiokafka.errors import KafkaError

from tests.simulation.host import Host
from tests.simulation.kafka import NewRecord
from tests.simulation.kafka.lab import Lab, seek


def story(seed: int) -> list[str]:
    """Return what happens with this seed."""
    lab = Lab(seed)
    read: list[str] = []

    async def work(host: Host) -> None:
        consumer = await lab.consumer(host)
        while True:
            try:
                batches = await consumer.getmany(timeout_ms=250)
            except KafkaError:
                seek(consumer)
                continue
            read.extend(
                f"{host.name} {record.partition} {record.offset}" for batch in batches.values() for record in batch
            )

    for number in range(3):
        host = lab.host(f"h{number}")
        lab.timeline.after(number, partial(lambda host: host.spawn(work(host)), host))
        lab.timeline.after(12 + 2 * number, host.crash if number == 1 else host.freeze)
        lab.timeline.after(30, host.thaw)
    for number in range(40):
        record = NewRecord(b"k", b"%d" % number)
        lab.timeline.after(number, partial(lab.cluster.write, "t", number % 4, [record]))
    lab.timeline.after(8, lambda: lab.cluster.kill(1))
    lab.timeline.after(10, lambda: lab.cluster.restart(1))
    lab.timeline.run_until(45)
    found = [*lab.trace, *read, f"{lab.timeline.steps} steps"]
    for host in lab.hosts.values():
        host.close()
    lab.cluster.close()
    return found


def test_a_seed_decides_everything_also_in_another_process_with_another_hash_seed() -> None:
    program = "from tests.simulation.kafka.test_determinism import story; print(*story(3), sep='\\n')"
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[3],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert len(told[0]) > 50
    assert story(3) == told[0]
    assert story(4) != told[0]
