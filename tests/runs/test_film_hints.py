"""Hints for frames of films: they hold through their shot and not beyond it, and redo the segments of that shot only."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bwpipe import UsageError, run
from bwpipe.core import plugins
from bwpipe.core.frame import Unit
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.planner import make_plan
from bwpipe.graph.graph import read_graph
from bwpipe.nn.checkpoint import Checkpoint, save
from bwpipe.nn.network import networks
from tests.runs.test_anchor import NETWORKS, SEGMENT, SHOT, SIZE, chroma, make, picture, shots

RED = (150, 105, 100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of three shots, the third of the first one's scene, and a network."""
    folder = tmp_path_factory.mktemp("hints")
    plugins.load([NETWORKS])
    torch.manual_seed(3)
    cls = networks["test-wandering"]
    save(folder / "net.safetensors", cls(cls.Options()), Checkpoint(network="test-wandering", version="0"))
    (folder / "film").mkdir()
    make(folder / "film" / "film.mkv", texture=12)
    return folder


def graph(folder: Path, out: Path, hints: Path | None, **settings: Any) -> dict[str, Any]:
    told = {} if hints is None else {"hints": str(hints)}
    stages: list[dict[str, Any]] = [
        {"use": "read", "path": str(folder / "film")},
        {"use": "grayscale"},
        {"use": "shots"},
        {"use": "colorize", "model": str(folder / "net.safetensors"), "device": "cpu", "precision": "float32", "workers": 1}
        | told,
        {"use": "anchor"},
        {"use": "write", "path": str(out), "codec": "ffv1", "pix_fmt": "yuv444p", "threads": 1},
    ]
    return {"plugins": [str(NETWORKS)], "segment": SEGMENT, **settings, "stages": stages}


@pytest.fixture(scope="module")
def plain(folder: Path) -> NDArray[np.float64]:
    assert run(graph(folder, folder / "plain", None)).exit_code == 0
    return chroma(folder / "plain" / "film.mkv")


def dot(path: Path, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """A dot on a frame, in pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    layer = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    x, y = place
    ImageDraw.Draw(layer).ellipse((x - 4, y - 4, x + 4, y + 4), fill=(*colour, 255))
    layer.save(path)


def tint(colour: tuple[int, int, int]) -> NDArray[np.float64]:
    return np.asarray(Image.new("RGB", (1, 1), colour).convert("YCbCr"), float)[0, 0, 1:] - 128


@pytest.mark.parametrize("colour", [RED, (120, 120, 120)])
def test_a_dot_holds_through_its_shot_and_not_beyond(
    colour: tuple[int, int, int], folder: Path, plain: NDArray[np.float64], tmp_path: Path
) -> None:
    dot(tmp_path / "hints" / "film.mkv" / "000015.png", (40, 40), colour)
    assert run(graph(folder, tmp_path / "out", tmp_path / "hints")).exit_code == 0

    found = chroma(tmp_path / "out" / "film.mkv")
    patch = found[SHOT : 2 * SHOT, :, 36:44, 36:44].mean(axis=(2, 3))
    assert np.abs(patch - tint(colour)).max() < 3
    others = np.r_[0:SHOT, 2 * SHOT : 3 * SHOT]
    np.testing.assert_array_equal(found[others], plain[others])


def test_shots_found_before_a_run_are_those_of_the_run(folder: Path, plain: NDArray[np.float64]) -> None:
    read = read_graph(graph(folder, folder / "new", None))
    finder = make_plan(read, {folder / "new": Ledger(folder / "new")}).shots
    assert finder is not None
    (unit,) = (unit for unit in read.nodes[0].stage.units() if isinstance(unit, Unit))  # type: ignore[attr-defined]
    finder.add(unit)
    around = [finder.around(unit.media, index) for index in (0, SHOT - 1, SHOT, 2 * SHOT + 4)]

    found = [range(shot["first"], shot["first"] + shot["frames"]) for shot in shots(folder / "plain")]
    assert finder.all(unit.media) == found == [range(SHOT), range(SHOT, 2 * SHOT), range(2 * SHOT, 3 * SHOT)]
    assert around == [found[0], found[0], found[1], found[2]]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("000039.png", "are for frame 39, and film.mkv ends with frame 38; correct the number"),
        ("coat.png", "are for no frame of film.mkv; call them by its number, 000123.png"),
    ],
)
def test_hints_for_no_frame_of_the_film_are_refused(name: str, error: str, folder: Path, tmp_path: Path) -> None:
    dot(tmp_path / "hints" / "film.mkv" / name, (40, 40), RED)

    with pytest.raises(UsageError, match=error):
        run(graph(folder, tmp_path / "out", tmp_path / "hints"))


def test_hints_that_can_not_be_read_fail_the_film(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "hints" / "film.mkv").mkdir(parents=True)
    (tmp_path / "hints" / "film.mkv" / "1.json").write_text(json.dumps({"points": [{"x": 1, "y": 1, "colour": "red"}]}))

    result = run(graph(folder, tmp_path / "out", tmp_path / "hints"))

    assert next(iter(result.failed.values())).endswith('write `points: [{x: 120, y: 80, colour: "#a03020"}]`')


def test_what_a_dot_coloured_keeps_its_colour_when_something_covers_the_dot(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "film").mkdir()
    (tmp_path / "net.safetensors").hardlink_to(folder / "net.safetensors")
    scene = picture(1) + np.random.default_rng(7).normal(0, 12, SIZE[::-1])
    with av.open(str(tmp_path / "film" / "film.mkv"), "w") as output:
        stream = output.add_stream("ffv1", rate=5)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "gray"
        for number in range(16):
            luma = np.rint(scene).clip(0, 255).astype(np.uint8)
            if number >= 6:
                luma[24:56, 24:56] = 20
            output.mux(stream.encode(VideoFrame.from_ndarray(luma, format="gray")))
        output.mux(stream.encode(None))
    dot(tmp_path / "hints" / "film.mkv" / "000002.png", (40, 40), RED)
    for name, hints in (("out", tmp_path / "hints"), ("plain", None)):
        assert run(graph(tmp_path, tmp_path / name, hints)).exit_code == 0

    change = np.abs(chroma(tmp_path / "out" / "film.mkv") - chroma(tmp_path / "plain" / "film.mkv"))
    seen = change[:, :, 64:, 64:].mean(axis=(1, 2, 3))
    assert seen[2] > 3
    assert seen[15] > 0.5 * seen[2]
