"""The preview of a film's frame, and of a picture with a reference: as they come out when they are run."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bwpipe import read_graph, run
from bwpipe.review.live_preview import LivePreview
from tests.runs.test_anchor import picture
from tests.runs.test_corrections import still
from tests.runs.test_film_hints import RED, dot, folder, graph  # noqa: F401 (a fixture)

FRAME, PLACE = 16, (40, 40)


def shown(film: Path) -> NDArray[np.float64]:
    """The frame of a film that a run has made, (h, w, 3) RGB."""
    with av.open(str(film)) as opened:
        frames = (each.to_ndarray(format="rgb24") for i, each in enumerate(opened.decode(video=0)) if i == FRAME)
        return np.asarray(next(frames), float)


def previewed(folder: Path, out: Path, **told: Any) -> NDArray[np.float64]:  # noqa: F811
    with LivePreview(read_graph(graph(folder, out, None))) as preview:
        return np.asarray(preview.colour(folder / "film" / "film.mkv", FRAME, **told), float)


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:  # noqa: F811
    """An output folder with the film, which was joined from several segments."""
    assert run(graph(folder, folder / "made", None)).exit_code == 0
    return folder / "made"


def test_a_frame_has_the_colours_that_the_memory_of_its_film_gives_it(folder: Path, made: Path) -> None:  # noqa: F811
    in_film = shown(made / "film.mkv")
    with_memory = previewed(folder, made, output=made / "film.mkv")
    alone = previewed(folder, made)

    assert np.abs(with_memory - in_film).mean() < 1
    assert np.abs(alone - in_film).mean() > 3 * np.abs(with_memory - in_film).mean()


def test_a_dot_and_a_still_change_a_frame_as_they_do_in_the_film(folder: Path, made: Path, tmp_path: Path) -> None:  # noqa: F811
    corrections = tmp_path / "corrections"
    reference = corrections / "references" / "film.mkv" / f"{FRAME:06}.png"
    still(folder, reference, FRAME)
    points = [{"x": PLACE[0], "y": PLACE[1], "colour": "#966964", "radius": 4}]
    for name, told in (("still", {"still": reference}), ("dot", {"points": points})):
        if name == "dot":
            reference.unlink()
            dot(corrections / "hints" / "film.mkv" / f"{FRAME:06}.png", PLACE, RED)
        assert run(graph(folder, tmp_path / name, None, corrections=str(corrections), segment="off")).exit_code == 0

        expected = shown(tmp_path / name / "film.mkv")
        found = previewed(folder, made, output=made / "film.mkv", **told)

        assert np.abs(found - expected).mean() < 2, name
        patch = np.s_[36:44, 36:44]
        assert np.abs(found[patch].mean(axis=(0, 1)) - expected[patch].mean(axis=(0, 1))).max() < 4, name
        assert np.abs(found[patch] - shown(made / "film.mkv")[patch]).mean() > 10, name


def test_a_reference_changes_a_picture_as_it_does_in_a_run(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    luma = picture(1).astype(np.uint8)
    source = tmp_path / "in" / "scene.png"
    source.parent.mkdir()
    Image.fromarray(luma).save(source)
    reference = tmp_path / "corrections" / "references" / "scene.png"
    still(folder, reference, FRAME)
    changes = {"read.path": str(source)}
    made = graph(folder, tmp_path / "out", None, corrections=str(tmp_path / "corrections"))
    assert run(made, set=changes).exit_code == 0
    expected = np.asarray(Image.open(tmp_path / "out" / "scene.png").convert("RGB"), float)

    with LivePreview(read_graph(made).override(changes)) as preview:
        plain, found = (np.asarray(preview.colour(source, still=each), float) for each in (None, reference))

    assert np.abs(found - expected).mean() < 1
    assert np.abs(plain - expected).mean() > 5
