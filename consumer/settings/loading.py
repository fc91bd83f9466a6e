"""Reads the settings: a TOML file, overridden by the environment, checked as a whole."""

import difflib
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from consumer.failure import Failure, SettingsError
from consumer.kafka_tls import client_context
from consumer.masking import remember_secret
from consumer.secret import Secret
from consumer.settings import doubts
from consumer.settings.proxies import Proxies, proxies_of
from consumer.settings.tree import (
    SECTIONS,
    AdminSettings,
    IngestSettings,
    KafkaSettings,
    LogSettings,
    MailmojoSettings,
    Row,
    SesamySettings,
    Settings,
    SyncSettings,
    table,
)

CONFIG_VARIABLE = "SESAMY_MAILMOJO_CONFIG"
EVERY_PART = frozenset({"kafka", "sesamy", "mailmojo"})


class _Given(Struct, frozen=True):
    """A setting as the user gave it."""

    name: str
    """As the user wrote it: the variable, or the key and its file."""
    text: str
    in_file: bool = False
    """The text is the path of a file that holds the secret."""
    in_document: bool = False
    """It stands in the TOML file."""


def load(environ: Mapping[str, str], config: Path | None = None, *, needs: Collection[str] = EVERY_PART) -> Settings:
    """Return the settings of a TOML file, overridden by the environment.

    Args:
        environ: the environment; an empty value counts as not set.
        config: the TOML file; None takes the one of `SESAMY_MAILMOJO_CONFIG`, if any.
        needs: the parts (`kafka`, `sesamy`, `mailmojo`, `ingest`) whose required settings must be there. What is given
            for other parts is checked all the same.

    Raises:
        SettingsError: something is missing, unknown or wrong.
    """
    document, source = _read_config(environ, config)
    rows = list(table())
    _refuse_unknown_keys(document, rows, source)
    given: dict[str, _Given] = {}
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for row in rows:
        found = _from_environment(row, environ) or _from_document(row, document, source)
        if found is not None:
            given[row.toml] = found
            values[row.section][row.key] = _parse(row, found)
    misspelt = dict(doubts.misspelt(environ, _known(rows)))
    _refuse_missing(rows, given, needs, misspelt)
    settings = Settings(
        kafka=KafkaSettings(**values["kafka"]),
        sesamy=SesamySettings(**values["sesamy"]),
        mailmojo=MailmojoSettings(**values["mailmojo"]),
        sync=SyncSettings(**values["sync"]),
        admin=AdminSettings(**values["admin"]),
        ingest=IngestSettings(**values["ingest"]),
        log=LogSettings(**values["log"]),
        doubts=(
            *(f"{name} is no setting; did you mean {meant}?" for name, meant in misspelt.items()),
            *_exposed(rows, given, source),
        ),
        sources={key: found.name for key, found in given.items()},
        proxies=_proxies(environ) if {"sesamy", "mailmojo"} & set(needs) else Proxies(),
    )
    _check_topics(settings.kafka, given)
    _check_security(settings.kafka, given)
    _check_retries(settings.sync, given)
    return settings


def _proxies(environ: Mapping[str, str]) -> Proxies:
    try:
        return proxies_of(environ)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _read_config(environ: Mapping[str, str], config: Path | None) -> tuple[dict[str, Any], str]:
    option = "--config"
    if config is None:
        option = CONFIG_VARIABLE
        if not environ.get(CONFIG_VARIABLE):
            return {}, ""
        config = Path(environ[CONFIG_VARIABLE])
    try:
        return tomllib.loads(config.read_text(encoding="utf-8")), str(config)
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise SettingsError(f"{option}: cannot read {config}: {reason}; give the path of a TOML file") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{option}: {config} is not UTF-8 text; give a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{config} is not valid TOML: {error}; correct that line") from error


def _refuse_unknown_keys(document: Mapping[str, Any], rows: list[Row], source: str) -> None:
    known = {row.toml for row in rows} | {f"{row.toml}_file" for row in rows if row.secret}
    for section, content in document.items():
        if section in SECTIONS and not isinstance(content, dict):
            raise SettingsError(f"{section} in {source} must be a table: write [{section}] and its keys below")
        keys = [f"{section}.{key}" for key in content] if isinstance(content, dict) else [section]
        for key in keys or [section]:
            if key in known or (not keys and section in SECTIONS):
                continue
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            hint = f"did you mean {close[0]}?" if close else "see `sesamy-mailmojo run --help` for the keys there are"
            raise SettingsError(f"unknown setting {key} in {source}: {hint}")


def _from_environment(row: Row, environ: Mapping[str, str]) -> _Given | None:
    name, file_name = row.setting.env, f"{row.setting.env}_FILE"
    plain = _Given(name, environ[name]) if environ.get(name, "").strip() else None
    if plain and doubts.is_of_a_service(name, plain.text):
        plain = None
    filed = _Given(file_name, environ[file_name], in_file=True) if row.secret and environ.get(file_name) else None
    return _one(plain, filed)


def _from_document(row: Row, document: Mapping[str, Any], source: str) -> _Given | None:
    content = document.get(row.section, {})

    def given(key: str, *, in_file: bool = False) -> _Given | None:
        value = content.get(key)
        if value is None or value == "":
            return None
        name = f"{row.section}.{key} in {source}"
        return _Given(name, _as_text(row, name, value), in_file, in_document=True)

    return _one(given(row.key), given(f"{row.key}_file", in_file=True) if row.secret else None)


def _one(plain: _Given | None, filed: _Given | None) -> _Given | None:
    if plain and filed:
        raise SettingsError(f"{plain.name} and {filed.name} are both set; keep one of them")
    return plain or filed


def _as_text(row: Row, name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    if row.setting.many and isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ",".join(value)
    wanted = "text or an array of texts" if row.setting.many else "a single value"
    raise SettingsError(f"{name} must be {wanted}, not {_KINDS.get(type(value), 'a date or time')}")


_KINDS: dict[type, str] = {list: "an array", dict: "a table"}


def _parse(row: Row, given: _Given) -> object:
    if row.secret:
        return _secret(given)
    try:
        return row.setting.parse(given.text.strip())
    except ValueError as error:
        shown = f", not {given.text[:80]!r}" if _may_be_shown(given.text) else ""
        raise SettingsError(f"{given.name} {error}{shown}") from error


def _may_be_shown(value: str) -> bool:
    """Tell whether a value that a setting does not take is surely no secret that was meant for another setting."""
    return not re.search(r"[@?#%]|-----|\n", value) and not re.search(
        r"(?=[^\s/.:,-]*\d)(?=[^\s/.:,-]*[A-Za-z])[^\s/.:,-]{16,}", value
    )


def _is_surely_a_path(text: str) -> bool:
    """Tell whether a text that names no file is a path all the same: its folder exists, or it reads like one."""
    if re.fullmatch(r"(/[a-z_.-]+[0-9]{0,2}[a-z_.-]*){2,}", text):
        return True
    folder = Path(text).parent
    try:
        return folder.is_absolute() and folder != folder.parent and folder.is_dir()
    except (OSError, ValueError):
        return False


def _secret(given: _Given) -> Secret:
    if given.in_file:
        try:
            secret = Secret(path=Path(given.text))
        except (OSError, ValueError) as error:
            if isinstance(error, UnicodeDecodeError):
                raise SettingsError(f"{given.name}: {given.text} is not text; put the secret alone into it") from error
            place = given.text
            if not _is_surely_a_path(place):
                # It may be the secret itself, put where its file is to be named: neither this text nor the cause's.
                remember_secret(given.text)
                place = "the file that it names"
            reason = getattr(error, "strerror", None) or "no path"
            raise SettingsError(
                f"{given.name}: cannot read {place}: {reason}; give the path of a file with the secret"
            ) from None
        if not secret.value:
            raise SettingsError(f"{given.name}: {given.text} is empty; put the secret into it")
    else:
        secret = Secret(given.text.strip())
    if not secret.value.isprintable():  # a line break would fail at the first call only, in a header
        raise SettingsError(f"{given.name} must be one line of printable characters; give the secret alone")
    return secret


def _known(rows: list[Row]) -> frozenset[str]:
    return frozenset(
        {CONFIG_VARIABLE}
        | {row.setting.env for row in rows}
        | {f"{row.setting.env}_FILE" for row in rows if row.secret}
    )


def _exposed(rows: list[Row], given: Mapping[str, _Given], source: str) -> Iterator[str]:
    """Yield a line for each file with a secret that other users can read or change."""
    keys = {row.toml for row in rows if row.secret}
    for key, found in given.items():
        if (key in keys and found.in_file) or key == "kafka.ssl_keyfile":
            path = Path(found.text.strip())
        elif key in keys and found.in_document:
            path = Path(source)
        else:
            continue
        if how := doubts.exposed(path):
            yield f"{found.name}: its file {how}; let only this program's user read it"


def _refuse_missing(
    rows: list[Row], given: Mapping[str, _Given], needs: Collection[str], misspelt: Mapping[str, str]
) -> None:
    missing = [
        row.setting.env + (f" (or {row.setting.env}_FILE)" if row.secret else "")
        for row in rows
        if row.setting.required and row.section in needs and row.toml not in given
    ]
    if missing:
        similar = "".join(f"; {name} is no setting, did you mean {meant}?" for name, meant in misspelt.items())
        raise SettingsError(
            f"not set: {', '.join(missing)}; set them in the environment or in a TOML file given with --config{similar}"
        )


def _check_topics(kafka: KafkaSettings, given: Mapping[str, _Given]) -> None:
    if kafka.dead_letter_topic == kafka.topic:
        name = given["kafka.dead_letter_topic"].name
        raise SettingsError(f"{name} must be another topic than the one of events ({kafka.topic})")


def _check_security(kafka: KafkaSettings, given: Mapping[str, _Given]) -> None:
    """Refuse halves, and files that hold something else: who gives a password or a certificate relies on its use."""
    protocol = kafka.security_protocol
    for prefix, in_use, fitting in (
        ("sasl_", protocol.startswith("SASL_"), "SASL_SSL or SASL_PLAINTEXT"),
        ("ssl_", protocol.endswith("SSL"), "SSL or SASL_SSL"),
    ):
        unused = [found.name for key, found in given.items() if key.startswith(f"kafka.{prefix}")]
        if unused and not in_use:
            raise SettingsError(
                f"{unused[0]} has no effect with KAFKA_SECURITY_PROTOCOL={protocol}; "
                f"set that to {fitting}, or remove {unused[0]}"
            )
    if protocol.startswith("SASL_"):
        wanted = {"sasl_mechanism": "", "sasl_username": "", "sasl_password": " (or KAFKA_SASL_PASSWORD_FILE)"}
        missing = [f"KAFKA_{key.upper()}{also}" for key, also in wanted.items() if f"kafka.{key}" not in given]
        if missing:
            raise SettingsError(f"not set: {', '.join(missing)}; KAFKA_SECURITY_PROTOCOL={protocol} needs them")
    if kafka.ssl_keyfile and not kafka.ssl_certfile:
        raise SettingsError(f"{given['kafka.ssl_keyfile'].name} needs a certificate; set KAFKA_SSL_CERTFILE as well")
    if protocol.endswith("SSL"):
        try:
            client_context(kafka, name=lambda key: given[f"kafka.{key}"].name)
        except Failure as error:
            raise SettingsError(str(error)) from error


def _check_retries(sync: SyncSettings, given: Mapping[str, _Given]) -> None:
    if sync.retry_cap < sync.retry_base:
        name = next(given[key].name for key in ("sync.retry_cap", "sync.retry_base") if key in given)
        raise SettingsError(
            f"{name}: SYNC_RETRY_CAP ({sync.retry_cap:g}) must not be below SYNC_RETRY_BASE ({sync.retry_base:g})"
        )
