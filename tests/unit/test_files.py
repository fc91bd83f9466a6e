import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from consumer import files

ROOT = Path(__file__).parents[2]


def _append(path: Path) -> None:
    with files.append(path) as file:
        file.write(b"more")


def _overwrite(path: Path) -> None:
    with files.create(path, overwrite=True) as file:
        file.write(b"more")


def _create(path: Path) -> None:
    with files.create(path) as file:
        file.write(b"more")


def _replace(path: Path) -> None:
    files.replace(path, b"more")


WRITERS = [_append, _overwrite, _create, _replace]


@pytest.mark.parametrize("write", WRITERS)
def test_p8_a_symbolic_link_is_refused_and_its_target_untouched(write: Callable[[Path], None], tmp_path: Path) -> None:
    target, link, dangling = tmp_path / "target", tmp_path / "link", tmp_path / "dangling"
    target.write_bytes(b"precious")
    link.symlink_to(target)
    dangling.symlink_to(tmp_path / "nowhere")
    for path in (link, dangling):
        with pytest.raises(OSError, match=r"symbolic link|exists"):
            write(path)
    assert target.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("write", WRITERS)
def test_p8_a_file_is_for_this_user_alone(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "file"
    before = os.umask(0)
    try:
        write(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == b"more"


def test_p8_the_file_beside_it_that_becomes_it_may_not_be_a_link_either(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / "b.new").symlink_to(target)
    with pytest.raises(OSError, match=r"b\.new is a symbolic link"):
        files.replace(tmp_path / "b", b"more")
    assert target.read_bytes() == b"precious"
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "no folder", "long name"])
def test_p8_what_cannot_be_replaced_is_refused_before_there_is_anything_to_write(kind: str, tmp_path: Path) -> None:
    path = {
        "device": Path("/dev/full"),
        "no folder": tmp_path / "none" / "b",
        "long name": tmp_path / ("b" * 300),
    }.get(kind, tmp_path / "b")
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "folder":
        path.mkdir()
    before = sorted(tmp_path.iterdir())
    says = "not a regular file" if kind in {"pipe", "device", "folder"} else "No such file|name too long"
    with pytest.raises(OSError, match=says):
        files.check_replaceable(path)
    with pytest.raises(OSError, match=says):
        files.replace(path, b"more")
    assert sorted(tmp_path.iterdir()) == before
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_looking_whether_a_file_can_be_replaced_leaves_it_and_its_folder_as_they_were(tmp_path: Path) -> None:
    files.check_replaceable(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "b").write_bytes(b"old")
    files.check_replaceable(tmp_path / "b")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("b", b"old")]


def test_a_file_that_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"old")
    (tmp_path / "b").chmod(0o644)
    (tmp_path / "b.new").write_bytes(b"half")
    files.replace(tmp_path / "b", b"whole")
    assert (tmp_path / "b").read_bytes() == b"whole"
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    assert not (tmp_path / "b.new").exists()


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b").write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.replace(tmp_path / "b", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_bytes() == b"old"


def test_overwriting_makes_a_new_file_and_a_pipe_or_device_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old and long")
    (tmp_path / "hard").hardlink_to(path)
    _overwrite(path)
    assert path.read_bytes() == b"more"
    assert (tmp_path / "hard").read_bytes() == b"old and long"
    _overwrite(Path(os.devnull))


def test_p8_nothing_else_in_the_program_opens_a_file_for_writing() -> None:
    opens = re.compile(
        r"""\.write_(text|bytes)\(|\.touch\(|\bopen\([^)\n]*["'][rb]*[wax+]|mkstemp|NamedTemporaryFile"""
    )
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "consumer").rglob("*.py")
        if path.name != "files.py" or path.parent.name != "consumer"
        for line in path.read_text(encoding="utf-8").splitlines()
        if opens.search(line) and "output.write_bytes" not in line and "def write_bytes" not in line
    ]
    assert found == []
