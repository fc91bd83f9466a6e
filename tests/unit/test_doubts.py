"""Settings that are allowed and yet likely mistakes, and secrets that end up where they should not."""

import argparse
import os
from pathlib import Path

import pytest

from consumer import cli
from consumer.cli.loading import load_settings
from consumer.masking import mask_secrets
from consumer.settings import SettingsError, load
from consumer.settings.doubts import is_of_a_service, misspelt
from consumer.settings.loading import _known
from consumer.settings.tree import table

SECRET = "Yq3tB7wWk2mM9zP4"
REQUIRED = {
    "SESAMY_CLIENT_ID": "client",
    "SESAMY_CLIENT_SECRET": "s3cret-of-the-client",
    "MAILMOJO_API_TOKEN": "t0ken-of-the-account",
    "MAILMOJO_LIST_ID": "1000000",
}
OF_SERVICES = {
    "INGEST_SERVICE_HOST": "10.96.0.12",
    "INGEST_SERVICE_PORT": "8090",
    "INGEST_SERVICE_PORT_HTTP": "8090",
    "INGEST_PORT": "tcp://10.96.0.12:8090",
    "INGEST_PORT_8090_TCP": "tcp://10.96.0.12:8090",
    "INGEST_PORT_8090_TCP_PROTO": "tcp",
    "INGEST_PORT_8090_TCP_PORT": "8090",
    "INGEST_PORT_8090_TCP_ADDR": "10.96.0.12",
    "ADMIN_PORT": "udp://10.96.0.13:53",
    "KAFKA_PORT": "tcp://10.96.0.14:9092",
    "KAFKA_TOPIC_SERVICE_HOST": "10.96.0.15",
    "KAFKA_TOPIC_PORT": "tcp://10.96.0.15:80",
    "SESAMY_MAILMOJO_PORT_8080_TCP_ADDR": "10.96.0.16",
    "LOG_PORT": "sctp://[fd00::1]:5140",
}


def doubts(**environ: str) -> list[str]:
    return list(load(REQUIRED | environ).doubts)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SYNC_CONCURENCY", "SYNC_CONCURRENCY"),
        ("KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"),
        ("KAFKA_SERVERS", "KAFKA_BOOTSTRAP_SERVERS"),
        ("KAFKA_GROUPID", "KAFKA_GROUP_ID"),
        ("KAFKA_TOPIC_NAME", "KAFKA_TOPIC"),
        ("KAFKA_PASSWORD", "KAFKA_SASL_PASSWORD"),
        ("kafka_topic", "KAFKA_TOPIC"),
        ("SESAMY_SECRET", "SESAMY_CLIENT_SECRET"),
        ("SESAMY_CLIENT_SECRET_FIEL", "SESAMY_CLIENT_SECRET_FILE"),
        ("SESAMY_MAILMOJO_CONFG", "SESAMY_MAILMOJO_CONFIG"),
        ("MAILMOJO_TOKEN", "MAILMOJO_API_TOKEN"),
        ("MAILMOJO_LIST", "MAILMOJO_LIST_ID"),
        ("SYNC_DRYRUN", "SYNC_DRY_RUN"),
        ("SYNC_SHUTDOWN_TIMEOUT", "SHUTDOWN_TIMEOUT"),
        ("SYNC_LINGER_SECONDS", "SYNC_LINGER"),
        ("ADMIN_PROT", "ADMIN_PORT"),
        ("LOG_LEVL", "LOG_LEVEL"),
        ("INGEST_SECRT", "INGEST_SECRET"),
    ],
)
def test_p9_a_variable_that_resembles_a_setting_is_doubted_without_its_value(name: str, meant: str) -> None:
    assert doubts(**{name: SECRET}) == [f"{name} is no setting; did you mean {meant}?"]


@pytest.mark.parametrize(
    "name",
    [
        "KAFKA_HEAP_OPTS",
        "KAFKA_OPTS",
        "KAFKA_JMX_OPTS",
        "KAFKA_BROKER_ID",
        "KAFKA_NODE_ID",
        "KAFKA_LISTENERS",
        "KAFKA_LOG_DIRS",
        "KAFKA_HOME",
        "KAFKA_ZOOKEEPER_CONNECT",
        "KAFKA_SECURITY_INTER_BROKER_PROTOCOL",
        "KAFKA_SASL_ENABLED_MECHANISMS",
        "KAFKA_CLUSTER_ID",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS",
        "KAFKA_NUM_PARTITIONS",
        "KAFKA_VERSION",
        "KAFKA_SSL_KEYSTORE_FILENAME",
        "LOG_DIR",
        "LOG_FILE",
        "ADMIN_USER",
        "ADMIN_PASSWORD",
        "INGEST_URL",
        "SYNC_MODE",
        "SYNCTHING_DRY_RUN",
        "TOPIC",
        "MY_KAFKA_TOPICS",
    ],
)
def test_a_variable_of_another_program_is_not(name: str) -> None:
    assert doubts(**{name: "x"}) == []


def test_a_variable_without_a_value_is_not() -> None:
    assert doubts(SYNC_CONCURENCY=" ") == []


def test_p9_variables_that_kubernetes_sets_for_services_are_ignored() -> None:
    settings = load(REQUIRED | OF_SERVICES)
    assert settings == load(REQUIRED)
    assert (settings.ingest.port, settings.admin.port) == (8090, 8080)
    assert not is_of_a_service("INGEST_PORT", "8091")
    with pytest.raises(SettingsError, match="ADMIN_PORT must be a whole number"):
        load(REQUIRED | {"ADMIN_PORT": "http://10.96.0.13:53"})


def test_no_setting_is_a_doubt_itself() -> None:
    rows = list(table())
    assert list(misspelt(dict.fromkeys(_known(rows), "x"), _known(rows))) == []


def test_p9_what_is_missing_may_be_what_is_misspelt() -> None:
    environ = {**REQUIRED, "MAILMOJO_API_TOKEN": "", "MAILMOJO_API_TOKN": SECRET}
    with pytest.raises(SettingsError) as error:
        load(environ)
    assert "not set: MAILMOJO_API_TOKEN" in str(error.value)
    assert "MAILMOJO_API_TOKN is no setting, did you mean MAILMOJO_API_TOKEN?" in str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("mode", "told"),
    [(0o600, None), (0o440, None), (0o644, "read"), (0o666, "read"), (0o620, "changed"), (0o602, "changed")],
)
def test_p8_a_secret_that_others_can_read_is_doubted(mode: int, told: str | None, tmp_path: Path) -> None:
    path, link = tmp_path / "token", tmp_path / "link"  # as Kubernetes mounts them
    path.write_text(SECRET)
    path.chmod(mode)
    link.symlink_to(path)
    environ = {name: value for name, value in REQUIRED.items() if name != "MAILMOJO_API_TOKEN"}
    found = load(environ | {"MAILMOJO_API_TOKEN_FILE": str(link)}).doubts
    assert len(found) == (told is not None)
    for doubt in found:
        assert doubt.startswith("MAILMOJO_API_TOKEN_FILE: ")
        assert f"can be {told} by other users" in doubt
        assert SECRET not in doubt


def test_p8_a_toml_file_with_a_secret_that_others_can_read_is_doubted(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(f'[mailmojo]\napi_token = "{SECRET}"\n')
    path.chmod(0o644)
    environ = {name: value for name, value in REQUIRED.items() if name != "MAILMOJO_API_TOKEN"}
    (doubt,) = load(environ, path).doubts
    assert doubt.startswith(f"mailmojo.api_token in {path}: its file can be read")
    path.write_text("[mailmojo]\nburst = 3\n")
    assert load(REQUIRED, path).doubts == ()


@pytest.mark.parametrize(
    ("environ", "document"),
    [
        ({"MAILMOJO_API_TOKEN_FILE": SECRET}, ""),
        ({"MAILMOJO_API_TOKEN_FILE": f"/{SECRET}"}, ""),
        ({"MAILMOJO_API_TOKEN_FILE": f"../{SECRET}/x"}, ""),
        ({"MAILMOJO_API_TOKEN_FILE": SECRET * 40}, ""),
        ({"KAFKA_SASL_PASSWORD_FILE": SECRET}, ""),
        ({}, f'[sesamy]\nclient_secret_file = "{SECRET}"'),
        ({}, f'[sesamy]\nclient_secret_file = "{SECRET}\\u0000"'),
        ({}, f'[kafka]\nsasl_password = ["{SECRET}"]'),
        ({}, f'[kafka]\nsasl_password = {{ value = "{SECRET}" }}'),
        ({}, f'[kafka]\nsasl_password = "{SECRET}\\nsecond line"'),
        ({"SYNC_CONCURRENCY": SECRET}, ""),
        ({"MAILMOJO_API_URL": f"https://user:{SECRET}@api.mailmojo.no"}, ""),
        ({"SESAMY_TOKEN_URL": f"https://token.sesamy.com/?client_secret={SECRET}"}, ""),
        ({"KAFKA_BOOTSTRAP_SERVERS": f"user:{SECRET}@kafka:9092"}, ""),
        ({"KAFKA_SSL_KEYFILE": f"-----BEGIN PRIVATE KEY-----\n{SECRET}"}, ""),
        ({"MAILMOJO_LIST_ID": f"{SECRET}/x"}, ""),
    ],
)
def test_p8_a_secret_in_the_wrong_place_is_not_shown(
    environ: dict[str, str],
    document: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(document)
    config.chmod(0o600)
    doubled = {name.removesuffix("_FILE") for name in environ} - set(environ)
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in (REQUIRED | environ).items():
        if name not in doubled and not (name == "SESAMY_CLIENT_SECRET" and "client_secret" in document):
            monkeypatch.setenv(name, value)
    assert cli.main(["run", "--config", str(config)]) == 2
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    assert said.err.count("\n") == 1


def test_p8_a_secret_in_place_of_its_path_is_masked_from_then_on() -> None:
    with pytest.raises(SettingsError):
        load({"MAILMOJO_API_TOKEN_FILE": "another-" + SECRET}, needs=())
    assert SECRET not in mask_secrets(f"token another-{SECRET} refused")


def test_a_path_that_leads_nowhere_is_shown(tmp_path: Path) -> None:
    for path in (f"{tmp_path}/token", f"{tmp_path}/{SECRET}", "/run/no-such-secrets/mailmojo_token.v2"):
        with pytest.raises(SettingsError, match=f"cannot read {path}: No such file"):
            load({"MAILMOJO_API_TOKEN_FILE": path}, needs=())


def test_p9_a_command_says_so_on_stderr_and_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_CONCURENCY", "7")
    settings = load_settings(argparse.Namespace(config=None), needs=())
    assert settings.sync.concurrency == 64
    said = "sesamy-mailmojo: warning: SYNC_CONCURENCY is no setting; did you mean SYNC_CONCURRENCY?\n"
    assert capsys.readouterr() == ("", said)
