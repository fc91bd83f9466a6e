"""The image cannot be built here, but all that its recipe says can be tried one by one."""

import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
_LINES = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
INSTRUCTIONS = [(word, rest) for word, _, rest in (line.partition(" ") for line in _LINES) if word]


def _all(instruction: str) -> list[str]:
    return [rest for word, rest in INSTRUCTIONS if word == instruction]


def _command(rest: str) -> list[str]:
    command: list[str] = json.loads(rest[rest.index("[") :])
    return command


def test_the_linter_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, ROOT / "deploy/Dockerfile"], capture_output=True, text=True, check=False)
    assert (found.stdout, found.returncode) == ("", 0)


def test_it_runs_the_service_as_nobody_in_particular_and_needs_no_shell() -> None:
    assert _all("USER") == ["10001:10001"]
    assert [_command(rest) for word in ("ENTRYPOINT", "CMD") for rest in _all(word)] == [["sesamy-mailmojo"], ["run"]]
    for rest in [*_all("RUN"), *_all("HEALTHCHECK")]:
        assert _command(rest)[0] == "python"


def test_its_python_is_one_the_program_is_said_to_run_on() -> None:
    versions = {re.match(r"python:(\d+\.\d+)-slim\b", rest)[1] for rest in _all("FROM")}  # type: ignore[index]
    (version,) = versions
    assert f"Python :: {version}" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_its_health_is_what_livez_says(status: int, healthy: bool) -> None:
    class Admin(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/livez" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    _, *arguments = _command(_all("HEALTHCHECK")[0])
    with http.server.HTTPServer(("127.0.0.1", 0), Admin) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            environment = {"ADMIN_PORT": str(server.server_port)}
            checked = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False)
        finally:
            server.shutdown()
            thread.join()
    assert (checked.returncode == 0) is healthy


def test_its_wheel_is_made_as_make_makes_it() -> None:
    printed = subprocess.run(
        ["make", "-n", "--no-print-directory", "wheel"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    ours = _command(_all("RUN")[0])
    flags = {"--disable-pip-version-check", "--no-cache-dir", "--quiet"}
    theirs = printed.splitlines()[-1].split()
    assert [part for part in ours[1:] if part not in flags] == [
        part.replace("dist", "/dist") for part in theirs[1:] if part not in flags
    ]


def test_what_it_copies_is_let_through_and_makes_a_whole_wheel(tmp_path: Path) -> None:
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    source = tmp_path / "source"
    source.mkdir()
    for rest in _all("COPY"):
        *names, _ = rest.split()
        for name in names:
            assert f"!{name}" in allowed
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--no-deps", "--wheel-dir", "dist"]
    subprocess.run([*command, "./source"], cwd=tmp_path, capture_output=True, check=True)
    (wheel,) = (tmp_path / "dist").glob("sesamy_mailmojo-*.whl")
    within = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(source)) for name in ("consumer", "schemas") for path in (source / name).rglob("*.*")
    }
    assert wanted <= within
