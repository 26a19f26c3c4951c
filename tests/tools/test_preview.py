from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bwpipe.core.context import RunContext
from bwpipe.core.frame import Unit
from bwpipe.graph.graph import read_graph
from bwpipe.graph.templates import template
from bwpipe.tools.preview import preview
from bwpipe.video.decoder import read_video
from tests.cli.test_commands import bwpipe
from tests.support.made_films import KINDS, Kind, make_film, opened
from tests.support.made_pictures import make_picture

SMALL = ("--set", "colorize.model=autoencoder")


def sheet_of(path: Path) -> NDArray[np.uint8]:
    sheet = cv2.imread(str(path))
    assert sheet is not None
    return np.asarray(sheet, np.uint8)


def test_a_sheet_shows_evenly_spaced_frames_in_grey_and_coloured(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", Kind(size=(128, 96)))
    graph = read_graph(template("pipeline.yaml"), {"read.path": str(film), "write.path": str(tmp_path / "out")})

    frames = preview(graph, 5, RunContext())

    assert [each.label.split()[-1] for each in frames] == ["3", "9", "15", "21", "27"]
    assert frames[1].label == "0:00.36   frame 9"
    ninth = next(read_video(Unit(opened(film), start=9, stop=10), warn=print))
    expected = np.clip((ninth.luma.astype(float) - 16) * 255 / 219, 0, 255)
    for each in frames:
        assert each.grey.shape == each.coloured.shape == (96, 128, 3)
        assert (each.grey == each.grey[..., :1]).all()
        assert np.ptp(each.coloured.astype(int), axis=2).max() > 3
    assert np.abs(frames[1].grey[..., 0] - expected).max() <= 1
    assert not (tmp_path / "out").exists()


def test_the_command_writes_one_file(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", Kind(turn=(-90, False)))

    options = ("--frames", "3", "--set", "colorize.vividness=0.5", *SMALL)
    printed = bwpipe("preview", str(film), "-o", str(tmp_path / "sheet.png"), *options)

    assert printed == f"{tmp_path / 'sheet.png'}\n"
    assert sheet_of(tmp_path / "sheet.png").shape == (2 * (96 + 20 + 8) + 8, 2 * (128 + 8) + 8, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"film.mp4", "sheet.png"}


def test_a_picture_is_shown_once_and_scaled_down(tmp_path: Path) -> None:
    picture = make_picture(tmp_path, "png-grey", width=960, height=480).path

    bwpipe("preview", str(picture), "-o", str(tmp_path / "sheet.png"), *SMALL)

    assert sheet_of(tmp_path / "sheet.png").shape == (240 + 20 + 16, 2 * 480 + 16, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.mp4"], "there is no file or folder gone.mp4"),
        (["."], "would be among the pictures that are read"),
        (["photo.png", "--doubtful", "--set", "colorize.model=autoencoder"], "the network does not say how sure it is"),
        (["film.mp4", "-o", "sheet.gif"], "a contact sheet must be a .jpg or .png file"),
        (["photo.png", "-o", "photo.png"], "would overwrite the input"),
        (["film.mp4", "--set", "colorize.bach=4"], "bach"),
    ],
)
def test_an_invalid_command_is_rejected(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_film(tmp_path / "film.mp4", Kind(times=[0]))
    make_picture(tmp_path, "png-grey").path.rename(tmp_path / "photo.png")

    assert message in bwpipe("preview", *arguments, code=2)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))

    assert "film.mp4: it " in bwpipe("preview", str(tmp_path / "film.mp4"), code=1)


def test_a_folder_is_shown_by_pictures_and_frames_with_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    make_film(folder / "film.mp4", Kind(size=(64, 48), times=range(0, 4 * 512, 512)))
    for name in ("b", "a"):
        make_picture(tmp_path, "png-grey", width=64, height=48).path.rename(folder / f"{name}.png")
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:60])
    graph = read_graph(template("pipeline.yaml"), {"read.path": str(folder), "colorize.model": "autoencoder"})
    run = RunContext()

    frames = preview(graph, 6, run)

    assert [each.label.split("   ")[0] for each in frames] == ["a.png", "b.png", "film.mp4", "film.mp4"]
    assert [path.name for path in (failed.path for failed in run.failures)] == ["broken.png"]
    assert len(preview(graph, 2, RunContext())) == 2


def test_the_most_doubtful_come_first(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mkv", replace(KINDS["grey"], size=(64, 48), times=range(0, 360, 40)))
    graph = read_graph(template("pipeline.yaml"), {"read.path": str(film)})

    every = preview(graph, 9, RunContext())
    worst = preview(graph, 2, RunContext(), doubtful=True)

    expected = sorted(every, key=lambda frame: frame.confidence or 0)[:2]
    assert [each.label.rpartition("   ")[0] for each in worst] == [each.label for each in expected]
    assert worst[0].label.endswith(f"confidence {worst[0].confidence:.2f}")
