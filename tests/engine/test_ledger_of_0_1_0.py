"""A ledger that bwpipe 0.1.0 wrote: what it finished stays finished, and what it began goes on.

`ledger_0_1_0/` holds what 0.1.0 left of a run of `graph()` over two pictures and two films of 12 frames, the second of which
was interrupted after its first segment: its inputs, its outputs, and a dump of its ledger (without the indices of films, which
hold absolute paths). Its film `unfinished.mkv` is a copy of `film.mkv`.
"""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bwpipe
from bwpipe.core.fingerprint import digest
from bwpipe.core.frame import Unit
from bwpipe.core.stage import Source
from bwpipe.engine.recipes_0_1 import _STAGES, _WEIGHTS
from bwpipe.graph.graph import read_graph
from bwpipe.nn.checkpoint import locate
from bwpipe.tools.describe import describe_graph
from tests.support.made_films import opened

OLD = Path(__file__).parent / "ledger_0_1_0"
FRAGMENT = "abab3face07f0f583b02-000000"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The inputs and outputs, with the times that the ledger knows."""
    shutil.copytree(OLD / "in", tmp_path / "in")
    shutil.copytree(OLD / "out", tmp_path / "out")
    shutil.copy(tmp_path / "in" / "film.mkv", tmp_path / "in" / "unfinished.mkv")
    work = tmp_path / "out" / ".bwpipe"
    (work / "fragments").mkdir(parents=True)
    (tmp_path / "out" / FRAGMENT).rename(work / "fragments" / FRAGMENT)
    with closing(sqlite3.connect(work / "ledger.sqlite")) as connection:
        connection.executescript((OLD / "ledger.sql").read_text(encoding="ascii"))
        rows = connection.execute("SELECT target, mtime_ns, made_mtime_ns FROM units").fetchall()
    for target, mtime_ns, made_mtime_ns in rows:
        name = os.fsdecode(target)
        os.utime(tmp_path / "out" / name, ns=(made_mtime_ns, made_mtime_ns))
        source = "unfinished.mkv" if FRAGMENT in name else name
        os.utime(tmp_path / "in" / source, ns=(mtime_ns, mtime_ns))
    return tmp_path


def graph(folder: Path, **options: Any) -> dict[str, Any]:
    nodes = [
        {"use": "read", "path": str(folder / "in")},
        {"use": "grayscale"},
        {"use": "shots"},
        {"use": "colorize", "model": "unet", "device": "cpu", "precision": "float32", **options.pop("colorize", {})},
        {"use": "steady"},
        {"use": "write", "path": str(folder / "out"), "preset": "ultrafast", **options.pop("write", {})},
    ]
    return {"segment": 5, "stages": nodes, **options}


def events(folder: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (folder / "out" / ".bwpipe" / "report.jsonl").read_text().splitlines()]


def described(folder: Path, **options: Any) -> str:
    return "\n".join(describe_graph(read_graph(graph(folder, **options))))


def unchanged(folder: Path, name: str = "*") -> bool:
    """Whether this version writes what 0.1.0 wrote; if not, its files are outdated, and its fragments are made again."""
    same_weights = digest(locate("unet")) == _WEIGHTS["unet"]
    made = [node.stage for node in read_graph(graph(folder)).nodes]
    assert isinstance(made[0], Source)
    units = [unit for unit in made[0].units() if isinstance(unit, Unit) and unit.name.match(name)]
    return same_weights and all(stage.revision_for(unit) == _STAGES[stage.registered][0] for stage in made for unit in units)


def contents(folder: Path) -> list[tuple[str, bytes, int]]:
    paths = sorted(path for path in (folder / "out").iterdir() if path.is_file())
    return [(path.name, path.read_bytes(), path.stat().st_mtime_ns) for path in paths]


def test_what_it_finished_is_not_done_again(folder: Path) -> None:
    (folder / "in" / "unfinished.mkv").unlink()
    before = contents(folder)

    first, second = bwpipe.run(graph(folder)), bwpipe.run(graph(folder))

    assert (first.done, first.already, second.done, second.already) == (0, 3, 0, 3)
    assert contents(folder) == before
    assert first.outdated == second.outdated
    if unchanged(folder):
        assert not first.outdated
    with closing(sqlite3.connect(folder / "out" / ".bwpipe" / "ledger.sqlite")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_once_it_is_migrated_an_option_of_films_does_not_redo_its_pictures(folder: Path) -> None:
    (folder / "in" / "unfinished.mkv").unlink()
    bwpipe.run(graph(folder))

    text = described(folder, write={"preset": "slow"})

    assert "would read: 1 film\ndone already: 2" in text
    assert '1: write.preset was "ultrafast", and is "slow"' in text


def test_an_option_that_changes_everything_redoes_everything(folder: Path) -> None:
    text = described(folder, colorize={"vividness": 0.5})

    assert "would read: 2 films, 2 pictures" in text
    assert "finished, but done again because the graph or the input changed: 3" in text


def test_looking_at_it_does_not_migrate_it(folder: Path) -> None:
    ledger = folder / "out" / ".bwpipe" / "ledger.sqlite"
    before = ledger.read_bytes()

    assert "would read: 1 film\ndone already: 3" in described(folder)
    assert ledger.read_bytes() == before


def test_an_unfinished_film_goes_on(folder: Path) -> None:
    assert bwpipe.run(graph(folder)).done == 1

    assert events(folder).count("segment") == (2 if unchanged(folder, "unfinished.mkv") else 3)
    assert len(opened(folder / "out" / "unfinished.mkv").times) == 12
