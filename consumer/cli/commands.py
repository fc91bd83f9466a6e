"""The table of commands. Listing them, or refusing a misspelt one, imports none of them."""

from typing import Final, NamedTuple


class Command(NamedTuple):
    """A command: its arguments are in `cli/arguments/`, its work in `cli/`, each in a module of its name."""

    name: str
    summary: str

    @property
    def module(self) -> str:
        """The name of both modules."""
        return self.name.replace("-", "_")


COMMANDS: Final = (
    Command("run", "the service: consume, sync, commit, until SIGTERM or SIGINT"),
    Command("demo", "the complete system on one machine, nothing to set up: broker, both APIs, events, contacts"),
    Command("check", "verify settings, Kafka, both APIs and the account fields; creates nothing"),
    Command("config", "print an example of a settings file, or the settings in effect and where they come from"),
    Command("sync", "sync some users now, through the running service or in this process"),
    Command("backfill", "put a sync request into the topic for every user Sesamy knows"),
    Command("reconcile", "clear contacts whose Sesamy user is gone or has another address"),
    Command("dead-letters", "inspect the dead-letter topic, and republish records"),
    Command("replay", "replay recorded events from a topic or file to a topic or file"),
    Command("load-test", "a load, instances of the service and the fakes in one run, and a report"),
    Command("sandbox", "only the fakes (Sesamy API, Mailmojo API), with latency, quotas, faults and a request log"),
    Command("ingest", "an HTTP endpoint that publishes Sesamy webhooks to the topic, keyed by user"),
)
"""In the order of `--help`."""

BY_NAME: Final = {command.name: command for command in COMMANDS}
