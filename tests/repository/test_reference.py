"""The generated reference matches the code and describes every key of the JSON that commands write."""

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
from bwpipe.core.stage import stages
from bwpipe.engine.run import run
from bwpipe.errors import TooManyErrors
from bwpipe.graph.json_schema import schema_text
from bwpipe.graph.templates import SCHEMA
from bwpipe.tools.json_fields import CHECK, INFO, LISTED, REPORT, RESULT, SCORE, VERIFY
from bwpipe.tools.reference import NOTE
from tests.support.made_films import EVEN, KINDS, make_film
from tests.support.made_photos import write_photos
from tests.support.planted import coded_film, with_captions

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
KeyPath = tuple[str, ...]


def test_the_generated_pages_are_current() -> None:
    made = pages()

    outdated = [name for name, text in made.items() if (FOLDER / name).read_text(encoding="utf-8") != text]
    generated = {path.name for path in FOLDER.glob("*.md") if path.read_text(encoding="utf-8").startswith(NOTE)}

    assert outdated == [], "run `make docs`, and commit what it changes"
    assert generated == made.keys()


@pytest.mark.usefixtures("own_registries")
def test_the_schema_in_the_repository_is_current() -> None:
    current = (FOLDER.parents[1] / SCHEMA).read_text(encoding="utf-8") == schema_text()

    assert current, "run `make docs`, and commit what it changes"


@stage("test-drop")
class Drop(UnitMap):
    """Excludes one file, as `pairs` does with unusable photographs."""

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
    """Output of commands: the lines of reports, scores, verdicts."""

    events: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    verdict: dict[str, Any]


def printed(*arguments: str | Path) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json", "-"])
    read: dict[str, Any] = json.loads(result.stdout)
    return read


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    """A run over photographs, a film and a broken file, the same run stopped by an error, and its scores and verdict."""
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
            {"use": "grayscale", "colour": "recolour", "restore": True},
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
    with pytest.MonkeyPatch.context() as patch:  # as a version of bwpipe whose output differs
        patch.setattr(stages["write"], "revision_for", lambda stage, unit: 99)
        run(graph)
    events += [json.loads(line) for line in (made / ".bwpipe" / "report.jsonl").read_text().splitlines()]
    (made / "a" / "002.png").unlink()
    scores = [
        printed("score", "autoencoder", "--on", photos, "--device", "cpu"),
        printed("score", "--guess", made, "--truth", photos, "--device", "cpu"),
    ]
    coded_film(photos / "captions.ts", change=with_captions)
    coded_film(made / "captions.ts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages["write"], "revision_for", lambda stage, unit: 99)
        verdicts = printed("verify", photos, made)
    return Outputs(events, scores, verdicts)


def key_paths(value: Any, before: KeyPath = ()) -> Iterator[KeyPath]:
    """The paths of all keys in JSON; list items are `[]`."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield (*before, key)
            yield from key_paths(inner, (*before, key))
    elif isinstance(value, list):
        for inner in value:
            yield from key_paths(inner, (*before, "[]"))


def described(key_path: KeyPath, patterns: Iterable[str]) -> set[str]:
    """The patterns that match a path; if any matches without `*`, only these."""
    matching = {
        pattern
        for pattern in patterns
        if len(steps := pattern.replace("[]", ".[]").split(".")) == len(key_path)
        and all(step in ("*", key) for step, key in zip(steps, key_path, strict=True))
    }
    return {pattern for pattern in matching if not pattern.endswith("*")} or matching


OF_WORKERS = ("worker", "workers")
"""Keys that only runs with worker processes have."""


def check(values: Iterable[Any], table: Mapping[str, str]) -> None:
    found = {
        key_path for value in values for key_path in key_paths(value) if key_path[:1] != ("by_folder",) or len(key_path) < 3
    }  # same keys as in `all`
    used = {key_path: described(key_path, table) for key_path in found}

    assert sorted(key_path for key_path, patterns in used.items() if not patterns) == [], "undescribed keys"
    missing = table.keys() - set().union(*used.values())
    assert sorted(key for key in missing if key.split(".")[0] not in OF_WORKERS) == [], "descriptions of missing keys"


def test_every_event_of_a_run_and_all_its_keys_are_described(outputs: Outputs) -> None:
    events = {name: [each for each in outputs.events if each["event"] == name] for name in REPORT}
    events["stopped"] += [{**each, "event": "stopped"} for each in events["ended"]]  # they have the same keys, plus counts

    assert {event["event"] for event in outputs.events} == REPORT.keys()
    for name, (_, fields) in REPORT.items():
        check(events[name], {"event": "", **fields})


def test_every_key_of_a_score_is_described(outputs: Outputs) -> None:
    check(outputs.scores, SCORE)


def test_every_key_of_a_verdict_is_described(outputs: Outputs) -> None:
    check([outputs.verdict], VERIFY)


def test_every_key_of_a_result_and_of_a_check_is_described(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_photos(source, 2)
    (source / "notes.txt").write_text("bought in Lyon")
    (source / "bad.png").write_bytes(b"no picture")
    graph = tmp_path / "graph.yaml"
    graph.write_text(f"stages:\n- use: read\n  path: {source}\n- use: grayscale\n- use: write\n  path: {out}\n")

    def printed(*arguments: str) -> Any:
        return json.loads(CliRunner().invoke(app, arguments).stdout)

    ran = printed("run", str(graph), "--json")
    changed = printed("check", str(graph), "--json", "--set", "grayscale.levels=off")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages["write"], "revision_for", lambda stage, unit: 99)
        outdated = printed("check", str(graph), "--json")

    film = make_film(tmp_path / "film.mkv", KINDS["uneven times, late sound"])
    files = [printed("info", path, "--json") for path in (*ran["outputs"], str(film))]

    listed = [printed(*names, "--json") for names in (("stages", "steady"), ("models", "unet"), ("losses", "rgb_mse"))]

    assert printed("stages", "--json").keys() >= {"read", "colorize", "write"}
    check(listed, LISTED)
    check(files, INFO)
    check([ran], RESULT)
    check([changed, outdated], CHECK)
