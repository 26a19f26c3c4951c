import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from bwpipe.draft import Draft
from bwpipe.errors import UsageError
from bwpipe.frame import Media, Unit
from bwpipe.ledger import Ledger


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    path = tmp_path / "in" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"grey")
    return Unit(Media(path=path, name=PurePosixPath("a.png"), width=2, height=2))


@pytest.fixture
def target(tmp_path: Path, unit: Unit) -> Path:
    """A file that was made of the unit by recipe "r1", as an earlier run left it."""
    ledger = Ledger(tmp_path / "out")
    ledger.open()
    draft = Draft(tmp_path / "out" / "a.png", tmp_path / "out")
    draft.path.write_bytes(b"colour")
    ledger.keep(unit, draft, "r1")
    ledger.close()
    return draft.target


def is_done(unit: Unit, target: Path, recipe: str = "r1") -> bool:
    ledger = Ledger(target.parent)
    try:
        return ledger.is_done(unit, target, recipe)
    finally:
        ledger.close()


def test_what_was_kept_is_done_for_the_next_run(unit: Unit, target: Path) -> None:
    assert is_done(unit, target)


def test_another_recipe_is_not_done_yet(unit: Unit, target: Path) -> None:
    assert not is_done(unit, target, "r2")


def test_a_touched_input_is_done_but_a_changed_one_is_not(unit: Unit, target: Path) -> None:
    os.utime(unit.path, ns=(1, 1))
    assert is_done(unit, target)

    unit.path.write_bytes(b"gray")
    assert not is_done(unit, target)


def test_an_output_that_is_missing_or_was_changed_is_not_done(unit: Unit, target: Path) -> None:
    ledger = Ledger(target.parent)
    assert ledger.owns(unit, target)
    target.write_bytes(b"retouched")

    assert not ledger.owns(unit, target)
    ledger.close()
    assert not is_done(unit, target)
    target.unlink()
    assert not is_done(unit, target)


def test_each_part_of_a_film_is_done_by_itself(unit: Unit, target: Path) -> None:
    assert not is_done(replace(unit, part=1), target)


def test_names_that_are_no_utf8_are_remembered(tmp_path: Path, unit: Unit, target: Path) -> None:
    ledger = Ledger(target.parent)
    draft = Draft(target.parent / os.fsdecode(b"\xff.png"), target.parent)
    ledger.keep(unit, draft, "r1")
    ledger.close()

    assert is_done(unit, draft.target)


def test_looking_things_up_creates_nothing(tmp_path: Path, unit: Unit) -> None:
    ledger = Ledger(tmp_path / "new")

    assert not ledger.is_done(unit, tmp_path / "new" / "a.png", "r1")
    ledger.close()
    assert not (tmp_path / "new").exists()


def test_a_second_run_into_the_same_folder_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    first = Ledger(tmp_path)
    first.open()
    with pytest.raises(UsageError, match="another run is writing into it"):
        Ledger(tmp_path)

    first.close()
    Ledger(tmp_path).close()


def test_facts_last(tmp_path: Path) -> None:
    first = Ledger(tmp_path)
    first.open()
    first.keep_facts({"precision": "bfloat16"})
    first.close()

    second = Ledger(tmp_path)
    assert second.facts == {"precision": "bfloat16"}
    second.close()


def test_a_ledger_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / ".bwpipe").mkdir()
    (tmp_path / ".bwpipe" / "ledger.sqlite").write_bytes(b"no database at all " * 100)

    with pytest.raises(UsageError, match=r"ledger\.sqlite: .*; remove it to start over"):
        Ledger(tmp_path)
