"""The compose file says what the program and the fakes know."""

import asyncio
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from consumer.cli.commands import BY_NAME
from consumer.sandbox import Options, Sandbox, World
from consumer.settings import load
from consumer.settings.tree import table

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))  # merge keys applied
SERVICES: dict[str, Any] = COMPOSE["services"]
CONSUMERS = sorted(name for name in SERVICES if name.startswith("consumer-"))
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)


def test_it_is_what_the_compose_specification_allows() -> None:
    compose_spec.PyCompose.from_yaml(yaml.safe_dump(COMPOSE)).validate()


def test_a_key_that_the_specification_does_not_know_is_noticed() -> None:
    with pytest.raises(ValueError, match="heathcheck"):
        compose_spec.PyCompose.from_yaml("services: {sandbox: {image: x, heathcheck: {}}}")


def test_three_consumers_differ_in_name_and_port_alone() -> None:
    assert len(CONSUMERS) == 3
    environments = [dict(SERVICES[name]["environment"]) for name in CONSUMERS]
    assert [environment.pop("KAFKA_CLIENT_ID") for environment in environments] == CONSUMERS
    ports = [environment.pop("ADMIN_PORT") for environment in environments]
    assert len(set(ports)) == 3
    assert environments[0] == environments[1] == environments[2]
    assert {f"127.0.0.1:{port}:{port}" for port in ports} == set(SERVICES["sandbox"]["ports"])


@pytest.mark.parametrize("name", [name for name in OURS if "environment" in SERVICES[name]])
def test_the_programs_settings_are_complete_and_known(name: str) -> None:
    environment: Mapping[str, str] = SERVICES[name]["environment"]
    assert set(environment) <= {row.setting.env for row in table()}
    settings = load(environment)
    if name in CONSUMERS:
        assert SERVICES[name]["stop_grace_period"] == f"{settings.sync.shutdown_timeout + 10:g}s"
    created = "\n".join(SERVICES["topics"]["command"])
    assert f"--topic {settings.kafka.topic} " in created
    assert f"--topic {settings.kafka.dead_letter_topic} " in created


async def test_the_settings_lead_to_the_sandbox() -> None:
    async with Sandbox(Options()) as sandbox:
        there = sandbox.environment
    for name, value in there.items():
        given = SERVICES["consumer-1"]["environment"][name]
        # The ports are free ones here, and the command's defaults there.
        assert re.sub(r":81\d\d", "", given) == re.sub(r"(?<=127\.0\.0\.1):\d+", "", value), name


@pytest.mark.parametrize("name", OURS)
def test_the_program_is_given_a_command_it_has_and_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert "entrypoint" in service or service.get("command", ["run"])[0] in BY_NAME
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    if name != "sandbox":  # plain http is accepted on loopback only
        assert service["network_mode"] == "service:sandbox"


async def test_what_makes_events_asks_for_a_sync_of_every_user(tmp_path: Path) -> None:
    users = SERVICES["sandbox"]["command"][SERVICES["sandbox"]["command"].index("--users") + 1]
    (script,) = SERVICES["events"]["command"]
    assert f"limit={users}" in script
    program = tmp_path / "sesamy-mailmojo"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\n', encoding="utf-8")
    program.chmod(0o755)
    world = World()
    world.populate(150, 1)
    async with Sandbox(Options(), world=world) as sandbox:
        here = script.replace("http://127.0.0.1:8103/_sandbox", sandbox.control_url)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", here, env={"PATH": f"{tmp_path}:/bin"})
        assert await process.wait() == 0
    given = (tmp_path / "arguments").read_text(encoding="utf-8").splitlines()
    assert given == ["sync", "--no-wait", *world.user_ids()]


def test_prometheus_asks_every_consumer() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    asked = {entry["labels"]["instance"]: entry["targets"] for entry in job["static_configs"]}
    hosts = {address.partition(":")[0] for addresses in asked.values() for address in addresses}
    assert hosts == {SERVICES[name]["environment"]["ADMIN_ALLOWED_HOSTS"] for name in CONSUMERS}
    assert asked == {name: [f"sandbox:{SERVICES[name]['environment']['ADMIN_PORT']}"] for name in CONSUMERS}


def test_what_it_mounts_is_there() -> None:
    mounts = [volume for service in SERVICES.values() for volume in service.get("volumes", [])]
    assert mounts
    for mount in mounts:
        assert (DEPLOY / mount.split(":")[0]).exists(), mount


def test_kafka_is_the_one_the_tests_run_on() -> None:
    version = re.search(r"kafka_2\.13</artifactId>\s*<version>([\d.]+)<", (DEPLOY / "kafka/pom.xml").read_text("utf-8"))
    assert version is not None
    assert {SERVICES[name]["image"] for name in ("kafka", "topics")} == {f"apache/kafka:{version[1]}"}
