"""GitHub's workflow is well formed and leaves out no test and no version of Python; it was never run at GitHub."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github/workflows/tests.yml"
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
_NO_TESTS = {"benchmarks", "load_testing", "soak"}
"""Folders of programs, which `make bench`, `make load-test` and `make soak` run."""


def _jobs() -> dict[str, Any]:
    jobs: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    return jobs


def _commands() -> str:
    return "\n".join(step["run"] for job in _jobs().values() for step in job["steps"] if "run" in step)


def test_actionlint_finds_nothing(tool: Callable[[str], str]) -> None:
    found = subprocess.run([tool("actionlint"), WORKFLOW], capture_output=True, text=True, check=False)
    assert (found.stdout, found.returncode) == ("", 0)


def test_every_folder_of_tests_belongs_to_a_job() -> None:
    targets = re.findall(r"make (test-\w+)", _commands())
    run = {
        folder
        for target in targets
        for folder in re.findall(r"tests/(\w+)", MAKEFILE.split(f"\n{target}:", 1)[1].split("\n\n", 1)[0])
    }
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.rglob("test_*.py"))}
    assert folders - _NO_TESTS == run


def test_the_unit_tests_run_on_every_version_of_python_that_the_package_names() -> None:
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(named) <= set(_jobs()["unit"]["strategy"]["matrix"]["python"])
    assert len(named) >= 3
