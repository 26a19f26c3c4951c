"""The generated reference is that of the code as it is, and every key of the JSON that commands write is described in it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from pydantic import PrivateAttr
from typer.testing import CliRunner

from bwpipe import Frame, RunContext, UnitMap, stage
from bwpipe.cli.main import app
from bwpipe.cli.reference import pages
from bwpipe.engine.run import run
from bwpipe.errors import TooManyErrors
from bwpipe.tools.json_fields import REPORT, SCORE, VERIFY
from bwpipe.tools.reference import NOTE
from tests.support.made_films import EVEN, KINDS, make_film
from tests.support.made_photos import write_photos

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
Way = tuple[str, ...]


def test_the_generated_pages_are_current() -> None:
    made = pages()

    outdated = [name for name, text in made.items() if (FOLDER / name).read_text(encoding="utf-8") != text]
    generated = {path.name for path in FOLDER.glob("*.md") if path.read_text(encoding="utf-8").startswith(NOTE)}

    assert outdated == [], "run `make docs`, and commit what it changes"
    assert generated == made.keys()


@stage("test-drop")
class Drop(UnitMap):
    """Leaves out one file, as `pairs` does with photographs that teach nothing."""

    _run: RunContext = PrivateAttr()

    def setup(self, run: RunContext) -> None:
        self._run = run

    def apply(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if frame.unit.name.stem == "000":
                self._run.exclude(frame.unit.media, "not wanted")
            else:
                yield frame


class Outputs(NamedTuple):
    """What commands wrote: the lines of reports, scores, verdicts."""

    events: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    verdict: dict[str, Any]


def printed(*arguments: str | Path) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json", "-"])
    read: dict[str, Any] = json.loads(result.stdout)
    return read


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    """A run over photographs, a film and a broken file, the same run stopped by an error, and what is measured of it."""
    folder = tmp_path_factory.mktemp("json")
    photos, made = folder / "photos", folder / "coloured"
    write_photos(photos / "a", 3)
    write_photos(photos / "b", 2)
    cv2.imwrite(str(photos / "a" / "grey.png"), np.full((40, 40), 100, np.uint8))
    make_film(photos / "film.mp4", replace(KINDS["PCM sound"], suffix=".mp4", sound="aac", times=EVEN[:12]))
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (made / "a").mkdir(parents=True)
    (made / "a" / "002.png").write_bytes(b"mine")
    graph = {
        "segment": 10,
        "stages": [
            {"use": "read", "path": str(photos)},
            {"use": "test-drop"},
            {"use": "grayscale", "restore": True},
            {"use": "shots"},
            {"use": "colorize", "model": "autoencoder", "precision": "float32", "device": "cpu"},
            {"use": "steady"},
            {"use": "write", "path": str(made), "preset": "ultrafast"},
        ],
    }
    events = []
    run(graph)
    events += [json.loads(line) for line in (made / ".bwpipe" / "report.jsonl").read_text().splitlines()]
    with pytest.raises(TooManyErrors):
        run({**graph, "on_error": "stop"})
    events += [json.loads(line) for line in (made / ".bwpipe" / "report.jsonl").read_text().splitlines()]
    (made / "a" / "002.png").unlink()
    scores = [
        printed("score", "autoencoder", "--on", photos, "--device", "cpu"),
        printed("score", "--guess", made, "--truth", photos, "--device", "cpu"),
    ]
    return Outputs(events, scores, printed("verify", photos, made))


def ways(value: Any, before: Way = ()) -> Iterator[Way]:
    """The path to every key in JSON; a list's items are `[]`."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield (*before, key)
            yield from ways(inner, (*before, key))
    elif isinstance(value, list):
        for inner in value:
            yield from ways(inner, (*before, "[]"))


def described(way: Way, patterns: Iterable[str]) -> set[str]:
    """The patterns that a path fits; where any names it without `*`, only these."""
    fitting = {
        pattern
        for pattern in patterns
        if len(steps := pattern.replace("[]", ".[]").split(".")) == len(way)
        and all(step in ("*", key) for step, key in zip(steps, way, strict=True))
    }
    return {pattern for pattern in fitting if not pattern.endswith("*")} or fitting


def check(values: Iterable[Any], table: Mapping[str, str]) -> None:
    found = {way for value in values for way in ways(value) if way[:1] != ("by_folder",) or len(way) < 3}  # as in `all`
    used = {way: described(way, table) for way in found}

    assert sorted(way for way, patterns in used.items() if not patterns) == [], "keys that are not described"
    assert sorted(table.keys() - set().union(*used.values())) == [], "descriptions of keys that are not there"


def test_every_event_of_a_run_and_each_of_its_keys_is_described(outputs: Outputs) -> None:
    events = {name: [each for each in outputs.events if each["event"] == name] for name in REPORT}
    events["stopped"] += [{**each, "event": "stopped"} for each in events["ended"]]  # which have the same keys, and counts

    assert {event["event"] for event in outputs.events} == REPORT.keys()
    for name, (_, fields) in REPORT.items():
        check(events[name], {"event": "", **fields})


def test_every_key_of_a_score_is_described(outputs: Outputs) -> None:
    check(outputs.scores, SCORE)


def test_every_key_of_a_verdict_is_described(outputs: Outputs) -> None:
    check([outputs.verdict], VERIFY)
