"""Seeds of the simulation, in processes of their own: what they print can be had again with the same command."""

import re
import subprocess
import sys

import pytest


def _simulate(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("first", range(1, 41, 5))
def test_every_promise_holds_in_every_world(first: int) -> None:
    seeds = [f"--seed={seed}" for seed in range(first, first + 5)]
    assert f"PASSED: {len(seeds)} seeds" in (told := _simulate(*seeds)), told


def test_members_that_are_gone_do_not_keep_a_group_from_forming() -> None:
    """A member that waited for them gave up too early and left one more of them, for ever."""
    assert "PASSED: 1 seeds" in (told := _simulate("--seed=23")), told


def test_a_seed_is_the_same_world_in_each_process_step_by_step() -> None:
    first, second = (re.findall(r"(\d+) steps, hash (\w+)", _simulate("--seed=2", "--look")) for _ in range(2))
    assert len(first) == 1
    assert first == second


def test_a_seed_shows_what_happened_line_by_line() -> None:
    told = _simulate("--seed=2", "--trace=/dev/stdout")
    assert re.search(r"^ +\d+\.\d{6}  a +info: group\.joined generation=1", told, re.MULTILINE), told[-2000:]
