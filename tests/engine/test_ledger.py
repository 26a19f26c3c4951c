import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.fingerprint import file_stamp
from bwpipe.core.frame import Media, Unit
from bwpipe.engine.finished_files import recorded_failures
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.recipes import Recipe, StageRecipe
from bwpipe.errors import MediaError, UsageError


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    path = tmp_path / "in" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"grey")
    return Unit(Media(path=path, name=PurePosixPath("a.png"), width=2, height=2))


@pytest.fixture
def target(tmp_path: Path, unit: Unit) -> Path:
    """An output of the unit by recipe "r1", as an earlier run left it."""
    ledger = Ledger(tmp_path / "out")
    ledger.open()
    file = AtomicFile(tmp_path / "out" / "a.png", tmp_path / "out")
    file.path.write_bytes(b"colour")
    ledger.keep(unit, file, recipe("r1"), file_stamp(unit.path))
    ledger.close()
    return file.target


def recipe(name: str) -> Recipe:
    return Recipe((StageRecipe("write", {"stage": "write", "revision": 1, "what": name}, frozenset({"revision"}), {}),))


def is_done(unit: Unit, target: Path, name: str = "r1") -> bool:
    ledger = Ledger(target.parent)
    try:
        return ledger.state(unit, target, recipe(name)).kind == "done"
    finally:
        ledger.close()


def test_a_recorded_unit_is_done_for_the_next_run(unit: Unit, target: Path) -> None:
    assert is_done(unit, target)


def test_a_different_recipe_is_not_done(unit: Unit, target: Path) -> None:
    assert not is_done(unit, target, "r2")


def test_a_touched_input_is_done_but_a_modified_one_is_not(unit: Unit, target: Path) -> None:
    os.utime(unit.path, ns=(1, 1))
    assert is_done(unit, target)

    unit.path.write_bytes(b"gray")
    assert not is_done(unit, target)


def test_a_missing_or_modified_output_is_not_done(unit: Unit, target: Path) -> None:
    ledger = Ledger(target.parent)
    assert ledger.owns(unit, target)
    target.write_bytes(b"retouched")

    assert not ledger.owns(unit, target)
    ledger.close()
    assert not is_done(unit, target)
    target.unlink()
    assert not is_done(unit, target)


def test_each_part_of_a_film_is_recorded_separately(unit: Unit, target: Path) -> None:
    assert not is_done(replace(unit, part=1), target)


def test_names_that_are_not_utf8_are_recorded(tmp_path: Path, unit: Unit, target: Path) -> None:
    ledger = Ledger(target.parent)
    ledger.open()
    file = AtomicFile(target.parent / os.fsdecode(b"\xff.png"), target.parent)
    ledger.keep(unit, file, recipe("r1"), file_stamp(unit.path))
    ledger.close()

    assert is_done(unit, file.target)


def test_an_input_that_changed_while_being_read_is_not_recorded(unit: Unit, target: Path) -> None:
    ledger = Ledger(target.parent)
    ledger.open()
    before = file_stamp(unit.path)
    unit.path.write_bytes(b"another picture")

    with pytest.raises(MediaError, match="it changed while it was being read; run again"):
        ledger.keep(unit, AtomicFile(target, target.parent), recipe("r2"), before)
    ledger.close()


def test_failures_are_recorded_until_the_unit_is_done(unit: Unit, target: Path) -> None:
    ledger = Ledger(target.parent)
    ledger.open()
    ledger.keep_failure(unit.path, "it is cut short")
    assert recorded_failures(ledger) == {unit.path: "it is cut short"}

    ledger.keep(unit, AtomicFile(target, target.parent), recipe("r2"), file_stamp(unit.path))
    assert recorded_failures(ledger) == {}
    ledger.close()


def test_lookups_need_no_lock(unit: Unit, target: Path) -> None:
    running = Ledger(target.parent)
    running.open()

    assert Ledger(target.parent).state(unit, target, recipe("r1")).kind == "done"
    running.close()


def test_a_ledger_of_another_version_is_rejected(unit: Unit, target: Path) -> None:
    with closing(sqlite3.connect(target.parent / ".bwpipe" / "ledger.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 99")

    with pytest.raises(UsageError, match="written by another version of bwpipe; remove it to start over"):
        Ledger(target.parent)


def test_a_ledger_reached_through_a_link_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".bwpipe").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UsageError, match="reached through one"):
        Ledger(tmp_path).open()


def test_lookups_create_nothing(tmp_path: Path, unit: Unit) -> None:
    ledger = Ledger(tmp_path / "new")

    assert ledger.state(unit, tmp_path / "new" / "a.png", recipe("r1")).kind == "missing"
    ledger.close()
    assert not (tmp_path / "new").exists()


def test_a_second_run_into_the_same_folder_is_rejected_until_the_first_ends(tmp_path: Path) -> None:
    first = Ledger(tmp_path)
    first.open()
    with pytest.raises(UsageError, match="another run is writing into it"):
        Ledger(tmp_path).open()

    first.close()
    second = Ledger(tmp_path)
    second.open()
    second.close()


def test_facts_persist(tmp_path: Path) -> None:
    first = Ledger(tmp_path)
    first.open()
    first.keep_facts({"precision": "bfloat16"})
    first.close()

    second = Ledger(tmp_path)
    assert second.facts == {"precision": "bfloat16"}
    second.close()


def test_a_ledger_that_is_not_a_database_is_rejected(tmp_path: Path) -> None:
    (tmp_path / ".bwpipe").mkdir()
    (tmp_path / ".bwpipe" / "ledger.sqlite").write_bytes(b"no database at all " * 100)

    with pytest.raises(UsageError, match=r"ledger\.sqlite: .*; remove it to start over"):
        Ledger(tmp_path)


def test_recording_a_large_input_can_be_interrupted(tmp_path: Path, unit: Unit) -> None:
    ledger = Ledger(tmp_path / "out")
    ledger.open()
    file = AtomicFile(tmp_path / "out" / "a.png", tmp_path / "out")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.keep(unit, file, recipe("r1"), file_stamp(unit.path), stop)
    ledger.close()

    assert not file.target.exists()
    assert not is_done(unit, file.target)


def test_files_are_recorded_while_others_are_forgotten(tmp_path: Path, unit: Unit) -> None:
    ledger = Ledger(tmp_path / "out")
    ledger.open()

    def work(worker: int) -> None:
        for number in range(60):
            file = AtomicFile(tmp_path / "out" / f"{worker}-{number}.png", tmp_path / "out")
            ledger.keep(unit, file, recipe("r1"), file_stamp(unit.path))
            if number % 2:
                ledger.forget([file.target])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    ledger.close()

    names = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert names == sorted(f"{worker}-{number}.png" for worker in range(4) for number in range(0, 60, 2))
    assert all(is_done(unit, tmp_path / "out" / name) for name in (names[0], names[-1]))


def test_a_hard_link_to_an_input_that_is_made_while_it_is_read_is_no_change(tmp_path: Path, unit: Unit, target: Path) -> None:
    ledger = Ledger(target.parent)
    ledger.open()
    before = file_stamp(unit.path)
    os.link(unit.path, tmp_path / "backup.png")

    ledger.keep(unit, AtomicFile(target, target.parent), recipe("r2"), before)
    ledger.close()
    assert is_done(unit, target, "r2")


def test_bytes_that_change_between_two_segments_are_noticed_at_the_same_size_and_time(unit: Unit, target: Path) -> None:
    ledger = Ledger(target.parent)
    ledger.open()
    before = file_stamp(unit.path)
    assert before
    ledger.keep(unit, AtomicFile(target, target.parent), recipe("r2"), before)
    unit.path.write_bytes(b"gray")
    os.utime(unit.path, ns=(before.mtime_ns, before.mtime_ns))

    with pytest.raises(MediaError, match="it changed while it was being read; run again"):
        ledger.keep(replace(unit, part=1), AtomicFile(target, target.parent), recipe("r2"), before)
    ledger.close()
