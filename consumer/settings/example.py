"""A TOML file with every setting, its meaning and its default, to be edited: `sesamy-mailmojo config example`."""

import json
import re

from consumer.settings.tree import SECTIONS, Row, table

_HEAD = """\
# Settings of sesamy-mailmojo: give this file with --config or SESAMY_MAILMOJO_CONFIG.
# Environment variables (named in parentheses) override it. Every line that is commented out shows the default.
# A secret can also be given as the path of a file that holds it: client_secret_file instead of client_secret.
"""


def render() -> str:
    """Return the text of the file: required settings are to be filled in, all others are commented out."""
    rows = list(table())
    parts = [_HEAD]
    for section in SECTIONS:
        lines = [f"[{section}]"]
        for row in rows:
            if row.section == section:
                lines += _lines(row)
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _lines(row: Row) -> list[str]:
    key = f"{row.key}_file" if row.secret else row.key
    about = f"# {row.setting.meaning[0].upper()}{row.setting.meaning[1:]} ({row.setting.env})"
    if row.setting.required:
        return [f"{about}; required", f'{key} = ""']
    shown = row.shown_default
    if row.secret or not shown or re.search("[ <]", shown):  # a description instead of a value
        return [f"{about}; default: {shown or 'none'}", f'# {key} = ""']
    return [about, f"# {key} = {_value(row, shown)}"]


def _value(row: Row, shown: str) -> str:
    if row.setting.many:
        return json.dumps(shown.split(","), ensure_ascii=False)
    if shown in {"true", "false"} or re.fullmatch(r"\d+(\.\d+)?", shown):
        return shown
    return json.dumps(shown, ensure_ascii=False)
