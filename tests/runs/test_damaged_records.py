"""What a run keeps in its work folder, damaged between two runs: it is made again, and the output is the same."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bwpipe import run
from tests.runs.test_anchor import TRIP
from tests.runs.test_film_hints import RED, dot, folder, graph  # noqa: F401 (a fixture)

TORN_AT = 35
"""The last frame of the fourth of five segments."""


@pytest.fixture(scope="module")
def torn(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """An output folder with two finished segments of a film or more, and its memory."""
    place = tmp_path_factory.mktemp("damaged")
    (place / "trip").mkdir()
    (place / "trip" / "trip.py").write_text(TRIP.replace("kill_at", "trip_damaged"))
    made = graph(folder, place / "out", None)
    made["plugins"].append(str(place / "trip"))
    made["stages"].insert(-1, {"use": "trip_damaged"})
    (place / "graph.json").write_text(json.dumps(made))
    last = {"trip_damaged.at": TORN_AT, "trip_damaged.fail": True}
    assert list(run(made, set=last).failed.values()) == ["it is torn"]
    assert len(list((place / "out" / ".bwpipe" / "fragments").iterdir())) >= 3
    return place


@pytest.fixture(scope="module")
def whole(torn: Path) -> bytes:
    """The film that an undisturbed run writes."""
    assert run(again(torn, torn / "whole")).exit_code == 0
    return (torn / "whole" / "film.mkv").read_bytes()


def again(torn: Path, out: Path, **settings: Any) -> dict[str, Any]:
    """The graph of that run, which does not fail."""
    made = {**json.loads((torn / "graph.json").read_text()), **settings}
    made["stages"][-1]["path"] = str(out)
    return made


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file behind bwpipe's back, as a disk does: its times stay."""
    status = path.stat()
    path.write_bytes(change(path.read_bytes()))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "flipped": flip,
    "another version": lambda data: data[:16].replace(b"1", b"9") + data[16:],
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
}
CASES = [
    pytest.param(what, how, marks=() if (what, how) in {("fragment", "flipped"), ("memory", "flipped")} else pytest.mark.slow)
    for what in ("fragment", "memory")
    for how in DAMAGES
]


def record(out: Path, what: str) -> Path:
    """The first fragment, or what stands for it, or the memory."""
    found = sorted((out / ".bwpipe" / "fragments").iterdir())
    return next(path for path in found if (len(path.name.partition("-")[2]) == 6) == (what == "fragment"))


def run_until_done(made: dict[str, Any]) -> None:
    """Run, and once more if something was found to be damaged when the film was joined."""
    result = run(made)
    if result.exit_code:
        (why,) = result.failed.values()
        assert "is damaged, and forgotten; run again, and it is made again" in why
        result = run(made)
    assert (result.exit_code, result.failed) == (0, {})


def damaged_copy(source: Path, out: Path, what: str, how: str) -> None:
    """Copy an output folder, and damage something that it keeps."""
    shutil.copytree(source, out)
    damage(record(out, what), DAMAGES[how])


@pytest.mark.parametrize(("what", "how"), CASES)
def test_what_an_unfinished_film_has_is_made_again(what: str, how: str, torn: Path, whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out"
    damaged_copy(torn / "out", out, what, how)
    run_until_done(again(torn, out))

    assert (out / "film.mkv").read_bytes() == whole


@pytest.mark.parametrize(("what", "how"), CASES)
def test_what_is_kept_of_a_finished_film_is_made_again(what: str, how: str, torn: Path, whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out"
    damaged_copy(torn / "whole", out, what, how)
    dot(tmp_path / "corrections" / "hints" / "film.mkv" / "000015.png", (40, 40), RED)
    run_until_done(again(torn, out, corrections=str(tmp_path / "corrections")))

    assert run(again(torn, tmp_path / "new", corrections=str(tmp_path / "corrections"))).exit_code == 0
    assert (out / "film.mkv").read_bytes() == (tmp_path / "new" / "film.mkv").read_bytes() != whole


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM units WHERE part = 1",
        "DELETE FROM units",
        "DELETE FROM recipes",
        "UPDATE recipes SET text = '{}'",
        "DELETE FROM notes",
        "DELETE FROM facts",
        "UPDATE units SET digest = NULL, size = NULL",
        "UPDATE units SET recipe = NULL",
        "UPDATE units SET frames = 'x'",
    ],
)
def test_records_that_the_ledger_lacks_are_made_again(
    statement: str,
    torn: Path,
    whole: bytes,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    shutil.copytree(torn / "out", out)
    with closing(sqlite3.connect(out / ".bwpipe" / "ledger.sqlite")) as ledger, ledger:
        ledger.execute(statement)
    run_until_done(again(torn, out))

    assert (out / "film.mkv").read_bytes() == whole
