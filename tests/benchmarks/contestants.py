"""The contestants. Each is a program of its own that reads its settings from the environment, as the service does."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from consumer.loadtest.processes import Child

ROOT = Path(__file__).parents[2]
_JAVA = Path(__file__).parent / "java"
_GO = Path(__file__).parent / "go"
_EVERYBODY = {
    "KAFKA_SESSION_TIMEOUT": "6",
    "SYNC_LINGER": "0",
    "SYNC_COALESCE": "false",
    "ADMIN_PORT": "0",
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "info",
}


class Contestant(Struct, frozen=True, kw_only=True):
    """One way to get from the topic to the APIs.

    Attributes:
        name: of its row.
        what: what it is, in a line.
        command: the program; `{folder}` is replaced by the folder of its output.
        settings: its own, beside those that all contestants have.
        cwd: where it starts.
        reads_topic: False for a program that reads its events from files.
        coalesces: whether one sync may answer several events.
        warm_up: events before it is measured.
        kinds: of loads that it takes part in.
    """

    name: str
    what: str
    command: tuple[str, ...]
    settings: Mapping[str, str] = {}
    cwd: Path = ROOT
    reads_topic: bool = True
    coalesces: bool = False
    warm_up: int = 500
    kinds: frozenset[str] = frozenset({"even", "hot", "fleet"})

    def start(self, folder: Path, settings: Mapping[str, str]) -> Child:
        """Start it with its output in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        inherited = ("PATH", "HOME", "LANG", "JAVA_HOME", "PYTHONPATH")
        environment = {name: os.environ[name] for name in inherited if name in os.environ}
        return Child(
            [part.format(folder=folder) for part in self.command],
            output=folder / "output",
            cwd=self.cwd,
            env={**environment, **_EVERYBODY, **self.settings, **settings},
        )


_RUN = (sys.executable, "-m", "consumer", "run")
SERVICE = Contestant(name="this service", what="`sesamy-mailmojo run`, one sync per event", command=_RUN)
COALESCING = Contestant(
    name="this service, coalescing",
    what="the same as it is by default: one sync answers all events of a user that are waiting",
    command=_RUN,
    settings={"SYNC_COALESCE": "true"},
    coalesces=True,
    kinds=frozenset({"hot"}),
)
CONNECTIONS = Contestant(
    name="aiohttp's connections",
    what="the six calls alone on aiohttp's connector and parser, no Kafka, nothing derived: the lower bound in Python",
    command=(sys.executable, "-m", "tests.benchmarks.bare", "connections", "{folder}"),
    reads_topic=False,
    kinds=frozenset({"even"}),
)
BARE = Contestant(
    name="bare `ClientSession`",
    what="the six calls alone with aiohttp's `ClientSession`, no Kafka, nothing derived",
    command=(sys.executable, "-m", "tests.benchmarks.bare", "session", "{folder}"),
    reads_topic=False,
    kinds=frozenset({"even"}),
)
GROUPED = Contestant(
    name="grouped by key",
    what="aiokafka, batches of 500, keys side by side, `ClientSession`, a commit after each batch; nothing derived",
    command=(sys.executable, "-m", "tests.benchmarks.grouped"),
    kinds=frozenset({"even", "hot"}),
)
PARALLEL = Contestant(
    name="Parallel Consumer",
    what="Confluent's 0.5.3.3 for Java with its Vert.x module, order by key; nothing derived",
    command=(
        "java",
        "-Xmx1g",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
        "-cp",
        f"{_JAVA}/target/dependency/*:{_JAVA}/target/classes",
        "Main",
    ),
    warm_up=4_000,  # until its compiler has seen enough
)
FRANZ = Contestant(
    name="franz-go",
    what="franz-go for Go, a worker per key, `net/http`; nothing derived",
    command=(str(_GO / "target" / "consumer"),),
)
CONTESTANTS = (SERVICE, COALESCING, CONNECTIONS, BARE, GROUPED, PARALLEL, FRANZ)


def at_commit(commit: str, checkout: Path) -> Contestant:
    """Return this service as it was at a commit, which is checked out there."""
    name, what = f"this service at {commit}", "the same at that commit"
    return Contestant(name=name, what=what, command=_RUN, cwd=checkout, kinds=frozenset({"even"}))


def build(contestants: Iterable[Contestant]) -> dict[str, str]:
    """Build what is not Python; return by contestant why it cannot run."""
    builders = {PARALLEL.name: _build_java, FRANZ.name: _build_go}
    problems = {one.name: builders[one.name]() for one in contestants if one.name in builders}
    return {name: problem for name, problem in problems.items() if problem}


def _build_java() -> str | None:
    for tool in ("java", "javac", "mvn"):
        if shutil.which(tool) is None:
            return f"there is no `{tool}` in PATH"
    jars = _JAVA / "target" / "dependency"
    if not list(jars.glob("parallel-consumer-vertx-*.jar")):
        shutil.rmtree(jars, ignore_errors=True)
        problem = _run(["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"], _JAVA)
        if problem:
            return problem
    source, compiled = _JAVA / "Main.java", _JAVA / "target" / "classes" / "Main.class"
    if compiled.exists() and compiled.stat().st_mtime > source.stat().st_mtime:
        return None
    return _run(["javac", "-d", "target/classes", "-cp", "target/dependency/*", "Main.java"], _JAVA)


def _build_go() -> str | None:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        return "there is no `go` in PATH"
    return _run([go, "build", "-o", "target/consumer", "."], _GO)


def _run(command: list[str], folder: Path) -> str | None:
    result = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if not result.returncode:
        return None
    return f"`{' '.join(command)}` failed: {(result.stdout + result.stderr).strip()[-300:]}"
