"""The table of faults fits the program: each of them can still be applied. `make mutants` runs them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutants.table import ROOT, Fault, OutOfDate, applied, groups, load

FAULTS = load()


def problems(faults: list[Fault]) -> Iterator[str]:
    for fault in faults:
        try:
            applied(fault)
        except OutOfDate as error:
            yield str(error)


@pytest.mark.parametrize("group", groups(FAULTS))
def test_each_fault_of_the_table_can_still_be_applied(group: str) -> None:
    assert list(problems([fault for fault in FAULTS if fault.group == group])) == []


def test_the_table_names_each_fault_once_and_tests_that_exist() -> None:
    names = [fault.name for fault in FAULTS]

    assert sorted({name for name in names if names.count(name) > 1}) == []
    assert {file for fault in FAULTS for file in fault.tests if not (ROOT / file).exists()} == set()
    assert [fault.name for fault in FAULTS if not (fault.tests and fault.breaks.endswith("."))] == []


def test_the_table_covers_every_part_whose_faults_lose_or_reorder_events() -> None:
    assert groups(FAULTS) == [
        "commits", "dead_letters", "evidence", "lease", "limiter", "mapping", "offsets", "queues", "source", "syncer",
    ]  # fmt: skip
    assert sum(not fault.equivalent for fault in FAULTS) >= 85


@pytest.mark.parametrize("text", ["x = 1\n", "y = 1\ny = 1\n"])
def test_a_fault_whose_text_is_missing_or_ambiguous_is_out_of_date(tmp_path: Path, text: str) -> None:
    (tmp_path / "module.py").write_text(text)
    fault = Fault(name="n", file="module.py", old="y = 1", new="y = 2", breaks="It breaks.", tests=("t",))

    with pytest.raises(OutOfDate, match=r"module\.py, not once; change the fault"):
        applied(fault, tmp_path)
