"""The table of faults: small changes to the program, each of which a test has to notice.

A fault names a file, text that stands in it exactly once, and the text that takes its place. When the program changes
and the text is no longer there, the fault is out of date and counts as an error: the table cannot rot unseen.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

FOLDER: Final = Path(__file__).parent / "faults"
ROOT: Final = Path(__file__).parents[2]


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One change to the program.

    Attributes:
        name: unique in the table.
        file: the file to change, from the root of the repository.
        old: text that stands in it exactly once.
        new: the text that takes its place.
        breaks: what goes wrong then, in one sentence.
        tests: the test files that have to notice it; by default those that its group names for the file.
        equivalent: why no test can notice it; empty for all others.
        group: the name of the table's file.
    """

    name: str
    file: str
    old: str
    new: str
    breaks: str
    tests: tuple[str, ...]
    equivalent: str = ""
    group: str = ""


class OutOfDate(Exception):
    """The text of a fault does not stand in its file exactly once."""


def load(folder: Path = FOLDER) -> list[Fault]:
    """Return all faults, by group."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        table = tomllib.loads(path.read_text())
        tests = table.get("tests", {})
        for fault in table["fault"]:
            own = {"group": path.stem, "tests": tests.get(fault["file"], [])}
            found.append(msgspec.convert({**own, **fault}, Fault))
    return found


def groups(faults: Sequence[Fault]) -> list[str]:
    """Return the names of the groups."""
    return sorted({fault.group for fault in faults})


def applied(fault: Fault, root: Path = ROOT) -> str:
    """Return the text of the fault's file with the fault in it.

    Raises:
        OutOfDate: the program has changed; the fault must be changed with it, or removed.
    """
    path = root / fault.file
    text = path.read_text() if path.exists() else ""
    if (count := text.count(fault.old)) != 1:
        raise OutOfDate(f"{fault.name}: its text stands {count} times in {fault.file}, not once; change the fault")
    return text.replace(fault.old, fault.new)
