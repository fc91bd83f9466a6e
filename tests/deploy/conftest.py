"""The checkers that pip does not bring."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

_WHERE = {
    "actionlint": "go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12",
    "helm": "go install helm.sh/helm/v3/cmd/helm@v3.22.0",
    "promtool": "apt-get install prometheus",
}


@pytest.fixture
def tool() -> Callable[[str], str]:
    def find(name: str) -> str:
        found = shutil.which(name, path=f"{os.environ['PATH']}:{Path.home() / 'go/bin'}")
        if found is None:
            reason = f"{name} is missing: {_WHERE[name]}"
            if os.environ.get("CI", "").lower() in {"1", "true"}:
                pytest.fail(f"CI must run every test. {reason}")
            pytest.skip(reason)
        return found

    return find
