"""The `score` stage: figures of a fitted network in a train graph."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from bwpipe import RunContext, UsageError
from bwpipe.core import plugins
from bwpipe.data.dataset import Dataset
from bwpipe.errors import RunStopped
from bwpipe.nn.checkpoint import Checkpoint, load, locate
from bwpipe.testing import run_stage
from bwpipe.training.job import FittedNetwork
from bwpipe.training.model_card import card

plugins.load()


def photos(count: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    made = [cv2.resize(rng.random((3, 3, 3)), (side, side), interpolation=cv2.INTER_LINEAR) for _ in range(count)]
    return np.rint(255 * np.stack(made)).astype(np.uint8)


@pytest.fixture(scope="module")
def fitted() -> FittedNetwork:
    """A network, and a dataset whose validation images are two people and a scene."""
    colour = photos(5, 32)
    grey = np.rint(colour @ [0.299, 0.587, 0.114]).astype(np.uint8)
    names = ["people/anna.jpg", "people/ben.jpg", "scenes/lake.jpg", "people/cleo.jpg", "scenes/hill.jpg"]
    network, _ = load(locate("autoencoder"))
    return FittedNetwork(network, Dataset.of(grey, colour, validation=[0, 1, 2], names=names), {"seed": 42})


def test_it_adds_figures_to_the_training_record(fitted: FittedNetwork) -> None:
    (made,) = run_stage("score", [fitted])

    record = json.loads(json.dumps(made.training))
    assert record == made.training
    assert set(record) == {"seed", "scores"}
    (scores,) = record["scores"]
    assert scores["figures"]["rgb_mse"] > 0
    assert scores["grey"]["chroma_ratio"] == 0
    assert {name: standing["pictures"] for name, standing in scores["by_folder"].items()} == {"people": 2, "scenes": 1}
    assert scores["protocol"]["pictures"] == 3
    assert fitted.data
    assert scores["protocol"]["dataset"] == fitted.data.digest
    assert scores["protocol"]["weights"] == "as fitted, before any rounding by `save`"
    assert scores["protocol"]["size"] == "32 x 32 pixels, as in the dataset"
    assert (made.network, made.data) == (fitted.network, fitted.data)
    assert fitted.training == {"seed": 42}


def test_photographs_in_a_folder_get_the_same_figures_as_in_the_dataset(fitted: FittedNetwork, tmp_path: Path) -> None:
    assert fitted.data
    for place in fitted.data.validation:
        path = (tmp_path / fitted.data.names[place]).with_suffix(".png")
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), fitted.data.colour[place][..., ::-1])

    (of_data,), (of_files,) = (run_stage("score", [fitted], on=on) for on in (None, str(tmp_path)))

    ours, theirs = (made.training["scores"][0] for made in (of_files, of_data))
    assert ours["figures"] == pytest.approx(theirs["figures"], rel=1e-3)
    assert ours["protocol"]["set"] == str(tmp_path)


def test_each_score_of_a_graph_adds_its_own(fitted: FittedNetwork) -> None:
    (once,) = run_stage("score", [fitted])
    (twice,) = run_stage("score", [once], size=16)

    first, second = twice.training["scores"]
    assert first == once.training["scores"][0]
    assert second["protocol"]["size"] == "squashed to 16 x 16 pixels"


def test_the_model_card_has_each_score_with_its_folders_and_its_protocol(fitted: FittedNetwork) -> None:
    (once,) = run_stage("score", [fitted])
    (made,) = run_stage("score", [once], size=16)
    record = {"data": "Made up.", "options": {}, "best_epoch": 1, "history": [{"epoch": 1, "loss": 0.5}], **made.training}

    text = card("made", Checkpoint(network="autoencoder", version="1", licence="CC0", training=record))

    assert text.count("### the validation images of the dataset\n") == 2
    for score in made.training["scores"]:
        assert f"| ciede2000 | {score['figures']['ciede2000']:.4g} | {score['grey']['ciede2000']:.4g} |" in text
        assert f"| people | 2 | {score['by_folder']['people']['figures']['rgb_mse']:.4g} |" in text
        assert f"- size: {score['protocol']['size']}" in text


def test_figures_do_not_depend_on_the_number_of_workers(fitted: FittedNetwork) -> None:
    (one,), (three,) = (run_stage("score", [fitted], workers=workers) for workers in (1, 3))

    assert one.training == three.training


def test_the_table_is_shown_and_the_page_is_written(fitted: FittedNetwork, tmp_path: Path) -> None:
    lines: list[str] = []
    (made,) = run_stage("score", [fitted], run=RunContext(say=lines.append), html=tmp_path / "made.html")

    for value in ("people", "scenes", f"{made.training['scores'][0]['figures']['ciede2000']:.2f}"):
        assert any(value in line for line in lines)
        assert value in (tmp_path / "made.html").read_text(encoding="utf-8")


def test_missing_photographs_are_refused_before_anything_starts(fitted: FittedNetwork, tmp_path: Path) -> None:
    for path, complaint in ((tmp_path, "there is no image in"), (tmp_path / "gone", "there is no file or folder")):
        with pytest.raises(UsageError, match=complaint):
            run_stage("score", [], on=str(path))


def test_photographs_without_colour_are_refused_before_anything_starts(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((16, 16), 90, np.uint8))
    with pytest.raises(UsageError, match=r"score\.on: no readable image in .* is in colour; use colour images"):
        run_stage("score", [], on=str(tmp_path))

    (tmp_path / "half.png").write_bytes((tmp_path / "grey.png").read_bytes()[:60])
    with pytest.raises(UsageError, match=r"score\.on: no readable image in .* is in colour"):
        run_stage("score", [], on=str(tmp_path))
    cv2.imwrite(str(tmp_path / "last.png"), photos(1, 16)[0])
    assert run_stage("score", [], on=str(tmp_path)) == []


def test_it_ends_when_the_run_does(fitted: FittedNetwork) -> None:
    stopped = RunContext()
    stopped.stop()
    with pytest.raises(RunStopped):
        run_stage("score", [fitted], run=stopped)
