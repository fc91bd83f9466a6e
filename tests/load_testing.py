"""`python -m tests.load_testing`: the command `load-test` with a real Kafka of its own."""

import os
import signal
import subprocess
import sys

from consumer import cli
from tests import kafka_broker
from tests.kafka_broker import KafkaBroker


def main() -> int:
    """Start the broker, run the command with this one's arguments against it, and return its exit code."""
    if not {"-h", "--help"}.isdisjoint(sys.argv):
        return cli.main(["load-test", "--help"])
    if reason := kafka_broker.unavailable():
        sys.stderr.write(f"{reason} Against another Kafka: sesamy-mailmojo load-test\n")
        return 2
    with KafkaBroker() as kafka:
        environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}
        # Ctrl-C reaches both: the command ends in order, and this process waits for that.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        command = [sys.executable, "-m", "consumer", "load-test", *sys.argv[1:]]
        return subprocess.run(command, env=environment, check=False, preexec_fn=_hear_interrupts).returncode


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main())
