"""What the pages say of the tree is there."""

import re
from pathlib import Path

import pytest

from consumer.settings.loading import CONFIG_VARIABLE
from consumer.settings.tree import table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCES = sorted(path for folder in ("consumer", "schemas", "tests") for path in (ROOT / folder).rglob("*.py"))


def test_the_settings_in_the_readme_are_those_of_the_table() -> None:
    known = {
        row.setting.env: f"| `{row.setting.env}` | {row.shown_default or 'none'} | {row.setting.meaning} |"
        for row in table()
    }
    section = README.split("### Settings", 1)[1].split("\n## ", 1)[0]
    shown = re.findall(r"^\| `([A-Z_]+)` .*$", section, re.MULTILINE)
    assert [line for line in section.splitlines() if line.startswith("| `")] == [known[name] for name in shown]
    required = {row.setting.env for row in table() if row.setting.required}
    assert required <= set(shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_test_file_and_command_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = {row.setting.env for row in table()}
    named = set(re.findall(r"\b(?:KAFKA|SESAMY|MAILMOJO|SYNC|ADMIN|INGEST|LOG)_[A-Z_]+\b", text))
    assert {name for name in named if name.removesuffix("_FILE") not in names} <= {CONFIG_VARIABLE}
    for file, _, test in re.findall(r"`((?:tests|consumer|schemas|deploy|docs)/[\w/.-]+)(::(\w+))?`", text):
        path = ROOT / file
        assert path.exists(), f"{page.name} names {file}"
        assert not test or re.search(rf"def {test}\b", path.read_text(encoding="utf-8")), f"{file} has no {test}"
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for command in set(re.findall(r"sesamy-mailmojo ([a-z][a-z-]+)\b", text)):
        assert (ROOT / "consumer/cli" / f"{command.replace('-', '_')}.py").exists(), f"{page.name} names {command}"


def test_every_page_and_test_that_a_comment_cites_exists() -> None:
    missing = {
        f"{source.relative_to(ROOT)} cites {path}"
        for source in SOURCES
        for path in re.findall(r"`((?:[\w-]+/)*[\w-]+\.md|tests/[\w/-]+\.py)\b", source.read_text(encoding="utf-8"))
        if not (ROOT / path).exists()
    }
    assert missing == set()


def test_every_case_has_a_test_that_is_named_for_it() -> None:
    cases = re.findall(r"^\| ([AKP]\d+) \|", (ROOT / "docs/cases.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(cases) == 50
    tests = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for names in re.findall(r"def test_((?:[akp]\d+_)+)", path.read_text(encoding="utf-8"))
        for name in names.split("_")
    }
    assert [case for case in cases if case.lower() not in tests] == []
