"""Folders that appear whole or not at all, whatever was there before and wherever the writer died."""

import signal
import sys
from pathlib import Path

import pytest
from folders_killed import publish, publish_killed_at
from forks import FORKS

from stream import folders
from stream.folders import drop_folder, publish_folder, remove_leftovers


@pytest.fixture(params=["exchange", "two renames"])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that may be replaced in one step, or, as on NFS, in two."""
    if request.param == "two renames":
        monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    return tmp_path / "target"


def content(target: Path) -> list[str]:
    return [(target / "inner" / f"{number}").read_text() for number in range(2)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_published_folder_holds_what_was_written_and_nothing_stays_beside_it(target: Path) -> None:
    publish(target, "new")
    assert content(target) == ["new", "new"]
    assert names(target.parent) == ["target"]


def test_missing_parents_are_made(target: Path) -> None:
    publish(target / "a" / "b", "new")
    assert content(target / "a" / "b") == ["new", "new"]


def test_a_folder_is_replaced_with_all_that_it_held(target: Path) -> None:
    publish(target, "old", num_files=5)
    publish(target, "new")
    assert content(target) == ["new", "new"]
    assert names(target / "inner") == ["0", "1"]
    assert names(target.parent) == ["target"]


def test_the_target_appears_at_the_end_of_the_block_only(target: Path) -> None:
    with publish_folder(target) as staging:
        (staging / "a").touch()
        assert not target.exists()
    assert names(target) == ["a"]


@pytest.mark.parametrize("existing", [True, False])
def test_after_an_exception_the_target_is_what_it_was(target: Path, existing: bool) -> None:
    if existing:
        publish(target, "old")
    with pytest.raises(ZeroDivisionError), publish_folder(target) as staging:
        (staging / "half").touch()
        raise ZeroDivisionError
    assert names(target.parent) == (["target"] if existing else [])
    assert not existing or content(target) == ["old", "old"]


def test_leftovers_of_a_killed_writer_are_not_published(target: Path) -> None:
    left = target.with_name(".writing-target")
    left.mkdir()
    (left / "half").touch()
    publish(target, "new")
    assert names(target) == ["inner"]
    assert names(target.parent) == ["target"]


def test_leftovers_are_removed_and_whole_folders_stay(target: Path) -> None:
    publish(target, "old")
    for name in (".writing-step-2", ".dropping-target", ".replaced-target"):
        (target.parent / name).mkdir()
    remove_leftovers(target.parent)
    assert names(target.parent) == ["target"]
    remove_leftovers(target.parent / "missing")


def test_a_folder_that_was_moved_aside_comes_back_if_its_successor_never_came(target: Path) -> None:
    publish(target, "old")
    target.rename(target.with_name(".replaced-target"))
    remove_leftovers(target.parent)
    assert content(target) == ["old", "old"]


def test_a_dropped_folder_is_gone_with_what_an_earlier_drop_left(target: Path) -> None:
    publish(target, "old")
    (target.parent / ".dropping-target").mkdir()
    drop_folder(target)
    drop_folder(target)
    assert names(target.parent) == []


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_an_existing_folder_is_never_missing_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise AssertionError("an existing folder is exchanged, not renamed")

    publish(tmp_path / "target", "old")
    monkeypatch.setattr(Path, "rename", refuse)
    publish(tmp_path / "target", "new")
    assert content(tmp_path / "target") == ["new", "new"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_writer_killed_anywhere_leaves_the_old_folder_or_the_new_one(tmp_path: Path, can_exchange: bool) -> None:
    """Kills the writer at its first file operation, then at its second, ..., until it comes through."""
    found: list[str] = []
    exitcode = -signal.SIGKILL
    while exitcode == -signal.SIGKILL:
        killed = tmp_path / f"{len(found)}" / "target"
        publish(killed, "old")
        process = FORKS.Process(target=publish_killed_at, args=(killed, len(found) + 1, can_exchange))
        process.start()
        process.join()
        exitcode = process.exitcode or 0
        assert killed.exists() or (not can_exchange and ".replaced-target" in names(killed.parent))
        remove_leftovers(killed.parent)
        assert names(killed.parent) == ["target"]
        assert content(killed) in (["old", "old"], ["new", "new"])
        found.append(content(killed)[0])
    assert exitcode == 0
    assert found == ["old"] * found.count("old") + ["new"] * found.count("new")
    assert found.count("old") >= 5 and found.count("new") >= 3
