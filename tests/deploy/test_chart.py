"""The chart makes what Kubernetes takes and what the program understands."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate.utils import ValidationError, validate

from consumer import cli
from consumer.cli.commands import BY_NAME
from consumer.settings import load
from consumer.settings.tree import table
from tests.certificates import Authority

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/sesamy-mailmojo"
KUBERNETES = ["--kube-version", "1.34.0"]
LEAST = {"existingSecret": "credentials", "settings": {"SESAMY_CLIENT_ID": "client", "MAILMOJO_LIST_ID": "1000000"}}
EVERYTHING = {
    "existingSecret": "credentials",
    "settings": {
        **LEAST["settings"],  # type: ignore[dict-item]
        "SHUTDOWN_TIMEOUT": "45.5",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": "sesamy-mailmojo",
    },
    "secretKeys": {"KAFKA_SASL_PASSWORD": "kafka-password"},
    "kafkaTls": {"existingSecret": "kafka", "keys": {"KAFKA_SSL_CERTFILE": "tls.crt", "KAFKA_SSL_KEYFILE": "tls.key"}},
    "otel": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
    "networkPolicy": {"collectorPorts": [4318]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "backfill": {"enabled": True},
    "reconcile": {"enabled": True, "clearAtMost": 1_000_000},
    "keda": {"enabled": True, "partitions": 12, "authenticationRef": "kafka"},
    "serviceAccountName": "somebody",
    "nodeSelector": {"pool": "small"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "podAnnotations": {"a": "b"},
    "adminAllowedHosts": ["mailmojo.example.no"],
    "image": {"pullSecrets": [{"name": "pull"}]},
}
OF_OTHERS = {"ServiceMonitor", "ScaledObject"}
"""Kinds that operators bring: Kubernetes has no schema for them."""

JOBS = {"CronJob backfill", "CronJob reconcile"}

Render = Callable[[dict[str, Any]], dict[str, dict[str, Any]]]


def _kind(document: dict[str, Any]) -> str:
    kind, name = document["kind"], document["metadata"]["name"]
    return f"{kind} {name.rpartition('-')[2]}" if kind == "CronJob" else kind


def _job(kinds: dict[str, dict[str, Any]], job: str) -> dict[str, Any]:
    """Return the template of a job's pods."""
    template: dict[str, Any] = kinds[job]["spec"]["jobTemplate"]["spec"]["template"]
    return template


@pytest.fixture
def helm(tool: Callable[[str], str]) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    path = tool("helm")

    def run(command: str, *arguments: str, values: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [path, command, *arguments, str(CHART), *KUBERNETES, "--values", "-"],
            input=yaml.safe_dump(values),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def render(helm: Callable[..., "subprocess.CompletedProcess[str]"]) -> Render:
    def run(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
        rendered = helm("template", "vendor", values=values)
        assert rendered.returncode == 0, rendered.stderr
        documents = [document for document in yaml.safe_load_all(rendered.stdout) if document]
        kinds = {_kind(document): document for document in documents}
        assert len(kinds) == len(documents)
        return kinds

    return run


@pytest.mark.parametrize("values", [LEAST, EVERYTHING], ids=["least", "everything"])
def test_it_is_sound(helm: Callable[..., "subprocess.CompletedProcess[str]"], values: dict[str, Any]) -> None:
    linted = helm("lint", "--strict", values=values)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize("values", [LEAST, EVERYTHING], ids=["least", "everything"])
def test_kubernetes_takes_what_it_makes(render: Render, values: dict[str, Any]) -> None:
    for kind, document in render(values).items():
        if kind not in OF_OTHERS:
            validate(document, "1.34", strict=True)


def test_a_field_that_kubernetes_does_not_know_is_noticed(render: Render) -> None:
    deployment = render(LEAST)["Deployment"]
    deployment["spec"]["replica"] = 1
    with pytest.raises(ValidationError):
        validate(deployment, "1.34", strict=True)


def test_what_needs_an_operator_or_costs_quota_is_off_until_asked_for(render: Render) -> None:
    assert set(render(LEAST)) == {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    assert set(render(EVERYTHING)) == set(render(LEAST)) | OF_OTHERS | JOBS


@pytest.mark.parametrize("values", [LEAST, EVERYTHING], ids=["least", "everything"])
def test_the_program_understands_its_pod(render: Render, values: dict[str, Any], tmp_path: Path) -> None:
    pod = render(values)["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    certificate = Authority(tmp_path).issue("client", "DNS:client").read_text(encoding="utf-8")
    for name, value in environment.items():
        if value.startswith("/"):
            folder, _, file = value.rpartition("/")
            secret = volumes[mounts[folder]]["secret"]
            assert "items" not in secret or file in {item["path"] for item in secret["items"]}
            environment[name] = str(tmp_path / name)
            (tmp_path / name).write_text(certificate if "_SSL_" in name else "x", encoding="utf-8")
    settings = load(environment)
    assert settings.mailmojo.list_id == "1000000"
    assert settings.admin.host == "0.0.0.0"
    assert settings.admin.allowed_hosts[0] == "vendor-sesamy-mailmojo"
    assert settings.admin.allowed_hosts[2:] == (
        "vendor-sesamy-mailmojo.default.svc",
        *values.get("adminAllowedHosts", ()),
    )
    assert container["ports"] == [{"name": "admin", "containerPort": settings.admin.port}]
    least, grace = settings.sync.shutdown_timeout + 10, pod["terminationGracePeriodSeconds"]
    assert least <= grace < least + 1
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "admin"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}


def test_no_secret_is_in_what_it_makes_and_no_pod_may_more_than_it_must(render: Render) -> None:
    kinds = render(EVERYTHING)
    secrets = {row.setting.env for row in table() if row.secret}
    for spec in (kinds["Deployment"]["spec"]["template"]["spec"], *(_job(kinds, job)["spec"] for job in JOBS)):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        (container,) = spec["containers"]
        assert container["args"][0] in BY_NAME
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert not secrets & {entry["name"] for entry in container["env"]}


def test_everything_selects_the_same_pods(render: Render) -> None:
    kinds = render(EVERYTHING)
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    of_jobs = [_job(kinds, job)["metadata"]["labels"] for job in JOBS]
    for selector in (
        kinds["Deployment"]["spec"]["selector"]["matchLabels"],
        kinds["Service"]["spec"]["selector"],
        kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
        assert not any(selector.items() <= job.items() for job in of_jobs)
    everywhere = kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    assert all(everywhere.items() <= job.items() for job in of_jobs)


@pytest.mark.parametrize("job", sorted(JOBS))
def test_no_two_of_a_job_run_at_once_and_the_program_understands_it(render: Render, job: str) -> None:
    kinds = render(EVERYTHING)
    assert kinds[job]["spec"]["concurrencyPolicy"] == "Forbid"
    (container,) = _job(kinds, job)["spec"]["containers"]
    assert cli.parse(container["args"]).command == job.rsplit(maxsplit=1)[-1]


def test_a_reconcile_only_looks_until_a_bound_is_given_and_then_keeps_it(render: Render) -> None:
    for values, options in (
        ({"enabled": True}, ["--dry-run"]),
        ({"enabled": True, "clearAtMost": 1_000_000}, ["--expect", "1000000"]),
    ):
        kinds = render({**LEAST, "reconcile": values})
        spec = _job(kinds, "CronJob reconcile")["spec"]
        assert spec["containers"][0]["args"] == ["reconcile", *options]
        # A run that found too many finds them again: it costs the quotas as much, and only somebody can tell why.
        assert spec["restartPolicy"] == "Never"
        assert kinds["CronJob reconcile"]["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 0


def test_prometheus_finds_the_service(render: Render) -> None:
    kinds = render(EVERYTHING)
    monitor, service = kinds["ServiceMonitor"], kinds["Service"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_traces_reach_their_collector(render: Render) -> None:
    kinds = render(EVERYTHING)
    (container,) = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"} in container["env"]
    (egress,) = kinds["NetworkPolicy"]["spec"]["egress"]
    assert {"port": 4318, "protocol": "TCP"} in egress["ports"]


def test_scaling_ends_at_the_number_of_partitions(render: Render) -> None:
    kinds = render(EVERYTHING)
    scaled = kinds["ScaledObject"]
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    assert scaled["spec"]["scaleTargetRef"]["name"] == kinds["Deployment"]["metadata"]["name"]
    assert scaled["spec"]["maxReplicaCount"] == 12
    assert "replicas" not in kinds["Deployment"]["spec"], "two owners of one number"
    (trigger,) = scaled["spec"]["triggers"]
    settings = load({"SESAMY_CLIENT_ID": "x"}, needs=())
    assert trigger["metadata"]["topic"] == settings.kafka.topic
    assert trigger["metadata"]["consumerGroup"] == settings.kafka.group_id


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"existingSecret": ""}, "existingSecret: name the Secret"),
        ({"settings": {"SESAMY_CLIENT_ID": ""}}, "settings.SESAMY_CLIENT_ID: required"),
        ({"settings": {"MAILMOJO_API_TOKEN": "x"}}, "MAILMOJO_API_TOKEN"),
        ({"settings": {"SYNC_LINGR": "x"}}, "SYNC_LINGR"),
        ({"otel": {"SYNC_LINGER": "1"}}, "SYNC_LINGER"),
        ({"settings": {"MAILMOJO_LIST_ID": 1000000}}, "MAILMOJO_LIST_ID"),
        ({"keda": {"enabled": True}}, "partitions"),
        ({"replica": 2}, "replica"),
        ({"reconcile": {"clearAtMost": -1}}, "clearAtMost"),
        ({"reconcile": {"expect": 50}}, "expect"),
    ],
)
def test_a_mistake_is_named(
    helm: Callable[..., "subprocess.CompletedProcess[str]"], wrong: dict[str, Any], said: str
) -> None:
    settings = {**LEAST["settings"], **wrong.get("settings", {})}  # type: ignore[dict-item]
    refused = helm("template", "vendor", values={**LEAST, **wrong, "settings": settings})
    assert refused.returncode != 0
    assert said in refused.stderr


def test_its_schema_knows_the_settings_of_the_program() -> None:
    properties = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))["properties"]
    rows = [row for row in table() if row.section != "admin"]  # the chart's own
    plain = sorted(row.setting.env for row in rows if not row.secret)
    assert properties["settings"]["propertyNames"]["enum"] == plain
    assert properties["secretKeys"]["propertyNames"]["enum"] == sorted(row.setting.env for row in rows if row.secret)


def test_its_version_is_the_programs() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert f'version = "{chart["appVersion"]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
