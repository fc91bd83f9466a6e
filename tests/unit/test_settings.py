import re
import socket
from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from consumer.secret import Secret
from consumer.settings import KafkaSettings, Settings, SettingsError, load
from consumer.settings.tree import table
from tests.certificates import Authority

REQUIRED = {
    "SESAMY_CLIENT_ID": "client",
    "SESAMY_CLIENT_SECRET": "sesame",
    "MAILMOJO_API_TOKEN": "token",
    "MAILMOJO_LIST_ID": "7",
}
CONTRACT_DEFAULTS = {
    "kafka.bootstrap_servers": "localhost:9092",
    "kafka.topic": "sesamy.events",
    "kafka.group_id": "sesamy-mailmojo",
    "kafka.client_id": socket.gethostname(),
    "kafka.dead_letter_topic": "sesamy.events.dead-letters",
    "kafka.auto_offset_reset": "earliest",
    "kafka.isolation_level": "read_committed",
    "kafka.session_timeout": 30,
    "kafka.value_pointer": None,
    "kafka.security_protocol": "PLAINTEXT",
    "kafka.sasl_mechanism": None,
    "kafka.sasl_username": None,
    "kafka.sasl_password": Secret(),
    "kafka.ssl_cafile": None,
    "kafka.ssl_certfile": None,
    "kafka.ssl_keyfile": None,
    "sesamy.vendor_id": None,
    "sesamy.api_url": "https://api2.sesamy.com",
    "sesamy.token_url": "https://token.sesamy.com/oauth/token",
    "sesamy.client_id": "client",
    "sesamy.client_secret": Secret("sesame"),
    "sesamy.audience": None,
    "sesamy.requests_per_minute": 100,
    "sesamy.burst": 20,
    "mailmojo.api_token": Secret("token"),
    "mailmojo.list_id": "7",
    "mailmojo.api_url": "https://api.mailmojo.no",
    "mailmojo.fields_path": "/v1/fields/",
    "mailmojo.clear_value": "null",
    "mailmojo.requests_per_second": 5,
    "mailmojo.burst": 5,
    "sync.concurrency": 64,
    "sync.linger": 2,
    "sync.coalesce": True,
    "sync.max_pending": 100_000,
    "sync.max_attempts": 10,
    "sync.retry_base": 1,
    "sync.retry_cap": 60,
    "sync.time_zone": ZoneInfo("UTC"),
    "sync.guest_prefixes": ("guest|", "anonymous|"),
    "sync.dry_run": False,
    "sync.shutdown_timeout": 20,
    "admin.host": "127.0.0.1",
    "admin.port": 8080,
    "admin.allowed_hosts": (),
    "ingest.host": "127.0.0.1",
    "ingest.port": 8090,
    "ingest.header": "X-Webhook-Secret",
    "ingest.secret": Secret(),
    "ingest.max_body": 65_536,
    "log.level": "info",
    "log.format": "json",
}


def value(settings: Settings, toml: str) -> object:
    section, key = toml.split(".")
    return getattr(getattr(settings, section), key)


def complaint(environ: Mapping[str, str], config: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load({**REQUIRED, **environ}, config)
    text = str(caught.value)
    assert "\n" not in text
    return text


def toml_file(folder: Path, text: str) -> Path:
    path = folder / "conf.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = load(REQUIRED)
    assert {row.toml: value(settings, row.toml) for row in table()} == CONTRACT_DEFAULTS


def test_no_variable_belongs_to_two_settings() -> None:
    names = [row.setting.env for row in table()]
    assert len(set(names)) == len(names)
    odd = {row.setting.env for row in table() if row.setting.env != row.toml.replace(".", "_").upper()}
    assert odd == {"SHUTDOWN_TIMEOUT"}


def test_the_environment_overrides_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    config = toml_file(tmp_path, '[kafka]\ntopic = "from-file"\ngroup_id = "from-file"\n[sync]\nlinger = 0.5')
    settings = load({**REQUIRED, "KAFKA_TOPIC": "from-env"}, config)
    assert (settings.kafka.topic, settings.kafka.group_id, settings.sync.linger) == ("from-env", "from-file", 0.5)
    assert settings.kafka.dead_letter_topic == "from-env.dead-letters"


def test_everything_can_stand_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    config = toml_file(
        tmp_path,
        f"""
        [kafka]
        bootstrap_servers = ["a:9092", "b:9092"]
        [sesamy]
        client_id = "c"
        client_secret = "s"
        [mailmojo]
        api_token_file = "{tmp_path / "token"}"
        list_id = 12
        [sync]
        coalesce = false
        guest_prefixes = []
        time_zone = "Europe/Oslo"
        [admin]
        port = 0
        """,
    )
    settings = load({"SESAMY_MAILMOJO_CONFIG": str(config)})
    assert settings.kafka.bootstrap_servers == "a:9092,b:9092"
    assert settings.mailmojo.api_token == Secret("from-file")
    assert settings.mailmojo.list_id == "12"
    assert (settings.sync.coalesce, settings.sync.guest_prefixes) == (False, ())
    assert settings.sync.time_zone == ZoneInfo("Europe/Oslo")
    assert settings.admin.port == 0


def test_an_empty_variable_is_not_set() -> None:
    settings = load({**REQUIRED, "SYNC_LINGER": "", "SESAMY_AUDIENCE": " ", "SESAMY_CLIENT_SECRET_FILE": ""})
    assert (settings.sync.linger, settings.sesamy.audience) == (2, None)


def test_the_environment_may_name_a_file_where_the_config_holds_the_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("rotated\n")
    config = toml_file(tmp_path, '[sesamy]\nclient_secret = "old"')
    environ = {key: value for key, value in REQUIRED.items() if key != "SESAMY_CLIENT_SECRET"}
    settings = load({**environ, "SESAMY_CLIENT_SECRET_FILE": str(tmp_path / "secret")}, config)
    assert settings.sesamy.client_secret == Secret("rotated")


def test_a_dry_run_has_a_group_of_its_own() -> None:
    assert load(REQUIRED).group_id == "sesamy-mailmojo"
    assert load({**REQUIRED, "SYNC_DRY_RUN": "true"}).group_id == "sesamy-mailmojo.dry-run"


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load({})
    assert str(caught.value) == (
        "not set: SESAMY_CLIENT_ID, SESAMY_CLIENT_SECRET (or SESAMY_CLIENT_SECRET_FILE), MAILMOJO_API_TOKEN "
        "(or MAILMOJO_API_TOKEN_FILE), MAILMOJO_LIST_ID; set them in the environment or in a TOML file given with "
        "--config"
    )


def test_a_command_asks_only_for_the_parts_it_needs() -> None:
    assert load({}, needs={"kafka"}).sesamy.client_id == ""
    with pytest.raises(SettingsError, match="not set: MAILMOJO_API_TOKEN"):
        load({}, needs={"mailmojo"})


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("http://localhost:8000/x", "http://localhost:8000/x"),
        ("http://127.8.9.1", "http://127.8.9.1"),
        ("http://[::1]:1/", "http://[::1]:1"),
        ("https://api.example.no/v2/", "https://api.example.no/v2"),
        ("HTTPS://API.Example.no:8443/V2", "https://api.example.no:8443/V2"),
        ("https://192.0.2.1/", "https://192.0.2.1"),
        ("https://xn--blbr-ioan.no/a%20b", "https://xn--blbr-ioan.no/a%20b"),
        ("https://my_host./~x/(1)", "https://my_host./~x/(1)"),
    ],
)
def test_urls_that_are_taken(url: str, accepted: str) -> None:
    assert load({**REQUIRED, "SESAMY_API_URL": url}).sesamy.api_url == accepted


URLS = pytest.mark.parametrize("name", ["SESAMY_API_URL", "SESAMY_TOKEN_URL", "MAILMOJO_API_URL"])


@URLS
@pytest.mark.parametrize(
    ("url", "way_out"),
    [
        ("http://api.example.no", "must start with https://"),
        ("http://localhost.example.no", "must start with https://"),
        ("http://128.0.0.1", "must start with https://"),
        ("https://me:hunter2@example.no", "must not hold credentials"),
        ("api.example.no", "must be a URL such as"),
        ("https://", "must be a URL such as"),
        ("https://x:99999", "must be a URL such as"),
        ("https://x/?a=b", "must be a URL such as"),
        ("ftp://localhost", "must be a URL such as"),
        ("https://a b", "must be a URL such as"),
    ],
)
def test_urls_that_are_refused(name: str, url: str, way_out: str) -> None:
    text = complaint({name: url})
    assert text.startswith(f"{name} {way_out}")
    assert "hunter2" not in text


NO_HOSTS = [
    ("api..example.no", "a part of its name is empty"),
    (".example.no", "a part of its name is empty"),
    ("api.example.no..", "a part of its name is empty"),
    (f"{'a' * 64}.example.no", "63 between two dots"),
    (".".join(["a" * 60] * 5), "253 characters at most"),
    ("api.ex*mple.no", "letters, digits and -"),
    ("-api.example.no", "letters, digits and -"),
    ("api-.example.no", "letters, digits and -"),
    ("1.2.3", "not a valid IP address"),
    ("256.1.1.1", "not a valid IP address"),
    ("127.0.0x1", "not a valid IP address"),
    ("xn--99999999.example.no", "not valid Punycode"),
    ("xn--a-\u00e5.no", ""),
    ("bl\u00e5b\u00e6r.no", ""),
    ("api.example\u3002no", ""),
]


@URLS
@pytest.mark.parametrize(("host", "reason"), NO_HOSTS)
def test_a18_a_url_whose_host_cannot_be_looked_up_is_refused(name: str, host: str, reason: str) -> None:
    text = complaint({name: f"https://{host}/path"})
    assert text.startswith(f"{name} must ")
    assert reason in text


@URLS
@pytest.mark.parametrize(
    "url",
    [
        "https://x:0/",
        "https://x:/",
        "https://x:port/",
        "https://x:-1/",
        "https://x:65536/",
        "https://:443/",
        "https:///path",
        "https:/x",
        "https:x",
        "//x/",
        "https://user@x/",
        "https://user:@x/",
        "https://x/?",
        "https://x/#",
        "https://x/#a",
        "https://x/a b",
        "https://x/a\\b",
        "https://x\\@y/",
        "https://x/%zz",
        "https://x/<a>",
        "https://x/\u00e5",
        "https://x/\x1b[2J",
        "https://x/a\nb",
        "https://x\t.no/",
        "https://[::1/",
        "https://[1.2.3.4]/",
        "https://[v1.x]/",
        "https://[fe80::1%25eth0]/",
        "javascript:alert(1)",
        "https://" + "a" * 3000,
    ],
)
def test_a18_a_url_that_could_not_be_requested_is_refused(name: str, url: str) -> None:
    text = complaint({name: url})
    assert text.startswith(f"{name} must ")
    assert text.isprintable()


def test_a18_the_setting_is_named_as_it_was_written(tmp_path: Path) -> None:
    path = toml_file(tmp_path, '[sesamy]\napi_url = "https://api..example.no"\n')
    assert complaint({}, path) == (
        f"sesamy.api_url in {path} must have a host that can be looked up: a part of its name is empty, "
        "not 'https://api..example.no'"
    )


@pytest.mark.parametrize("name", ["KAFKA_BOOTSTRAP_SERVERS", "ADMIN_HOST", "INGEST_HOST"])
@pytest.mark.parametrize(("host", "reason"), NO_HOSTS)
def test_a18_so_is_any_other_host_that_cannot_be_looked_up(name: str, host: str, reason: str) -> None:
    text = complaint({name: f"{host}:9092" if name.startswith("KAFKA") else host})
    assert text.startswith(f"{name} must be ") or "must have a host" in text
    assert reason in text or name.startswith("KAFKA")


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "localhost", "my_host", "a-b.example.no", "a.no.", "xn--blbr-ioan.no"]
)
def test_hosts_that_are_taken(host: str) -> None:
    settings = load({**REQUIRED, "ADMIN_HOST": host, "KAFKA_BOOTSTRAP_SERVERS": f"[{host}]:1" if ":" in host else host})
    assert settings.admin.host == host


@pytest.mark.parametrize(
    ("name", "wrong", "way_out"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:port", "must be host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka://kafka:9092", "must be host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", ",", "must be host:port"),
        ("KAFKA_TOPIC", "a b", "must be a topic name"),
        ("KAFKA_TOPIC", "..", "must be a topic name"),
        ("KAFKA_GROUP_ID", "a\nb", "must be one line"),
        ("KAFKA_DEAD_LETTER_TOPIC", "sesamy.events", "must be another topic"),
        ("KAFKA_AUTO_OFFSET_RESET", "newest", "must be one of earliest, latest"),
        ("KAFKA_ISOLATION_LEVEL", "x", "must be one of read_committed, read_uncommitted"),
        ("KAFKA_SESSION_TIMEOUT", "5.9", "must be a number from 6 to 1800"),
        ("KAFKA_SESSION_TIMEOUT", "nan", "must be a number from 6 to 1800"),
        ("KAFKA_VALUE_POINTER", "data", "must be a JSON pointer such as /data"),
        ("KAFKA_VALUE_POINTER", "/a~2", "must be a JSON pointer such as /data"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS", "must be one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ("KAFKA_SASL_MECHANISM", "GSSAPI", "must be one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ("KAFKA_SSL_CAFILE", "/nowhere/ca.pem", "must be the path of a file that exists"),
        ("SESAMY_REQUESTS_PER_MINUTE", "0", "must be a number from"),
        ("SESAMY_REQUESTS_PER_MINUTE", "-1", "must be a number from"),
        ("SESAMY_BURST", "0", "must be a whole number from 1"),
        ("MAILMOJO_LIST_ID", "a/b", "must be a list's id"),
        ("MAILMOJO_FIELDS_PATH", "v1/fields", "must be a path such as /v1/fields/"),
        ("MAILMOJO_CLEAR_VALUE", "none", "must be one of null, empty"),
        ("MAILMOJO_REQUESTS_PER_SECOND", "inf", "must be a number from"),
        ("MAILMOJO_BURST", "2.5", "must be a whole number from 1"),
        ("SYNC_CONCURRENCY", "many", "must be a whole number from 1"),
        ("SYNC_LINGER", "-1", "must be a number from 0"),
        ("SYNC_COALESCE", "maybe", "must be true or false"),
        ("SYNC_MAX_PENDING", "0", "must be a whole number from 1"),
        ("SYNC_MAX_ATTEMPTS", "0", "must be a whole number from 1"),
        ("SYNC_RETRY_BASE", "0", "must be a number from"),
        ("SYNC_TIME_ZONE", "Oslo", "must be a time zone such as Europe/Oslo"),
        ("SYNC_TIME_ZONE", "../etc", "must be a time zone such as Europe/Oslo"),
        ("SHUTDOWN_TIMEOUT", "0", "must be a number from"),
        ("ADMIN_PORT", "65536", "must be a whole number from 0 to 65535"),
        ("LOG_LEVEL", "loud", "must be one of debug, info, warning, error"),
        ("LOG_FORMAT", "xml", "must be one of console, json"),
    ],
)
def test_a_wrong_value_is_named_with_the_way_out(name: str, wrong: str, way_out: str) -> None:
    assert complaint({name: wrong}).startswith(f"{name} {way_out}")


def test_a_complaint_repeats_the_value_unless_it_may_be_private() -> None:
    assert complaint({"SYNC_LINGER": "soon"}).endswith("not 'soon'")
    assert "hunter2" not in complaint({"KAFKA_BOOTSTRAP_SERVERS": "me:hunter2@kafka:9092"})


def test_a_retry_cap_below_its_base() -> None:
    assert complaint({"SYNC_RETRY_BASE": "90"}) == (
        "SYNC_RETRY_BASE: SYNC_RETRY_CAP (60) must not be below SYNC_RETRY_BASE (90)"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[kafka]\ntopics = 'x'", "unknown setting kafka.topics in FILE: did you mean kafka.topic?"),
        ("[sync]\nshutdown_timeut = 1", "unknown setting sync.shutdown_timeut in FILE: did you mean sync.shutdown_"),
        ("linger = 1", "unknown setting linger in FILE: did you mean sync.linger?"),
        ("[sesammy]\nclient_id = 'x'", "unknown setting sesammy.client_id in FILE: did you mean sesamy.client_id?"),
        ("[qqqq]", "unknown setting qqqq in FILE: see `sesamy-mailmojo run --help`"),
        ("[kafka]\ntopic_file = 'x'", "unknown setting kafka.topic_file in FILE: did you mean kafka.topic?"),
        ("[kafka]\ntopic = ", "FILE is not valid TOML: Invalid value (at end of document)"),
        ("[kafka]\ntopic = 'a'\ngroup_id == 'b'\n", "FILE is not valid TOML: Invalid value (at line 3"),
        ("kafka = 1", "kafka in FILE must be a table: write [kafka]"),
        ("[sync]\nlinger = 'soon'", "sync.linger in FILE must be a number from 0 to 3600, not 'soon'"),
        ("[sync]\nlinger = [1]", "sync.linger in FILE must be a single value, not an array"),
        ("[sync]\nlinger = 2024-01-01", "sync.linger in FILE must be a single value, not a date or time"),
        ("[sync]\nconcurrency = true", "sync.concurrency in FILE must be a whole number"),
        ("[sync]\nguest_prefixes = [1]", "sync.guest_prefixes in FILE must be text or an array of texts"),
        ("[kafka]\ntopic = ['a']", "kafka.topic in FILE must be a single value"),
        ("[mailmojo]\napi_token = 'a'\napi_token_file = 'b'", "mailmojo.api_token in FILE and mailmojo.api_token_file"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_file(tmp_path: Path, text: str, said: str) -> None:
    config = toml_file(tmp_path, text)
    environ = {"MAILMOJO_API_TOKEN": ""} if "api_token" in text else {}
    assert complaint(environ, config).startswith(said.replace("FILE", str(config)))


def test_an_empty_table_is_no_mistake(tmp_path: Path) -> None:
    assert load(REQUIRED, toml_file(tmp_path, "[kafka]\n")).kafka.topic == "sesamy.events"


def test_a_config_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert complaint({}, missing).startswith(f"--config: cannot read {missing}: No such file")
    assert complaint({"SESAMY_MAILMOJO_CONFIG": str(missing)}).startswith("SESAMY_MAILMOJO_CONFIG: cannot read ")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in complaint({}, binary)


@pytest.mark.parametrize("name", ["SESAMY_CLIENT_SECRET", "MAILMOJO_API_TOKEN", "KAFKA_SASL_PASSWORD"])
def test_secret_files_that_are_no_use(tmp_path: Path, name: str) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n")
    binary.write_bytes(b"\xff\xfe\x00")
    alone = {name: ""}
    file_name = f"{name}_FILE"
    assert complaint({**alone, file_name: str(tmp_path / "no")}).startswith(f"{file_name}: cannot read {tmp_path}/no")
    assert complaint({**alone, file_name: str(empty)}) == f"{file_name}: {empty} is empty; put the secret into it"
    assert complaint({**alone, file_name: str(binary)}).startswith(f"{file_name}: {binary} is not text")
    assert complaint({name: "x", file_name: str(empty)}) == f"{name} and {file_name} are both set; keep one of them"


def test_a_secret_is_never_repeated() -> None:
    text = complaint({"MAILMOJO_API_TOKEN": "hunter2\nhunter3"})
    assert text.startswith("MAILMOJO_API_TOKEN must be one line")
    assert "hunter" not in text
    assert "sesame" not in repr(load(REQUIRED))


SASL = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "scram-sha-512",
    "KAFKA_SASL_USERNAME": "me",
    "KAFKA_SASL_PASSWORD": "pw",
}


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an authority and two certificates of it: `crt`, `key`, and both as `pem`."""
    folder = tmp_path_factory.mktemp("pem")
    authority = Authority(folder)
    for name in ("ours", "other"):
        authority.issue(name, f"DNS:{name}")
    (folder / "garbage").write_text("no certificate")
    return folder


def test_a_login_and_certificates(pem: Path) -> None:
    files = {"KAFKA_SSL_CAFILE": "authority.pem", "KAFKA_SSL_CERTFILE": "ours.crt", "KAFKA_SSL_KEYFILE": "ours.key"}
    kafka = load({**REQUIRED, **SASL, **{name: str(pem / file) for name, file in files.items()}}).kafka
    assert (kafka.sasl_mechanism, kafka.sasl_password) == ("SCRAM-SHA-512", Secret("pw"))
    assert kafka.ssl_cafile == pem / "authority.pem"
    both = load({**REQUIRED, "KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CERTFILE": str(pem / "ours.pem")}).kafka
    assert both.ssl_certfile == pem / "ours.pem"


@pytest.mark.parametrize(
    ("files", "named", "holds"),
    [
        ({"cafile": "garbage"}, "CAFILE", "garbage holds no certificate (no certificate or crl found); give"),
        ({"cafile": "ours.key"}, "CAFILE", "ours.key holds no certificate ("),
        ({"certfile": "garbage"}, "CERTFILE", "garbage is no certificate with its key ("),
        ({"certfile": "ours.crt"}, "CERTFILE", "ours.crt is no certificate with its key ("),
        (
            {"certfile": "ours.crt", "keyfile": "garbage"},
            "CERTFILE, KEYFILE",
            "ours.crt is no certificate with its key",
        ),
        (
            {"certfile": "ours.crt", "keyfile": "other.key"},
            "CERTFILE, KEYFILE",
            "ours.crt is no certificate with its key (key values mismatch); give",
        ),
    ],
)
def test_a_file_that_holds_something_else_is_named_as_written(
    pem: Path, tmp_path: Path, files: Mapping[str, str], named: str, holds: str
) -> None:
    said = f": {pem}/{holds}"
    tls = {"KAFKA_SECURITY_PROTOCOL": "SSL"}
    environ = {f"KAFKA_SSL_{key.upper()}": str(pem / file) for key, file in files.items()}
    names = [f"KAFKA_SSL_{name}" for name in named.split(", ")]
    assert complaint(tls | environ).startswith(", ".join(names) + said)
    config = toml_file(tmp_path, "[kafka]\n" + "".join(f"ssl_{key} = '{pem / file}'\n" for key, file in files.items()))
    keys = [f"kafka.ssl_{name.lower()} in {config}" for name in named.split(", ")]
    assert complaint(tls, config).startswith(", ".join(keys) + said)


@pytest.mark.parametrize("files", [{}, {"KAFKA_SSL_CAFILE": "authority.pem"}])
def test_a_key_log_that_cannot_be_written_is_not_taken_for_a_bad_certificate(
    pem: Path, monkeypatch: pytest.MonkeyPatch, files: Mapping[str, str]
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", "/nowhere/keys")
    environ = {name: str(pem / file) for name, file in files.items()}
    said = complaint({"KAFKA_SECURITY_PROTOCOL": "SSL"} | environ)
    assert said.startswith("no TLS: ")
    assert "/nowhere/keys" in said


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"},
            "not set: KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD (or KAFKA_SASL_PASSWORD_FILE)",
        ),
        ({"KAFKA_SASL_PASSWORD": "pw"}, "KAFKA_SASL_PASSWORD has no effect with KAFKA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({**SASL, "KAFKA_SECURITY_PROTOCOL": "SSL"}, "KAFKA_SASL_MECHANISM has no effect"),
        ({"KAFKA_SSL_CAFILE": __file__}, "KAFKA_SSL_CAFILE has no effect with KAFKA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_KEYFILE": __file__}, "KAFKA_SSL_KEYFILE needs a certificate"),
    ],
)
def test_half_a_login_is_refused(environ: Mapping[str, str], said: str) -> None:
    assert complaint(environ).startswith(said)


def test_a_struct_alone_has_the_same_defaults() -> None:
    assert KafkaSettings(topic="t").dead_letter_topic == "t.dead-letters"
    assert all(re.fullmatch(r"[A-Z_]+", row.setting.env) and row.setting.meaning for row in table())
