"""`bwpipe verify` of numbered frames: what is equal, and that each difference is found."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import bwpipe
from bwpipe.cli.main import app
from bwpipe.sequence import exr
from tests.support.made_films import MKV, make_film
from tests.support.made_reels import SUFFIXES, Kind, scene, write_reel

FRAMES = scene(8)


def run(path: Path, out: Path, plugins: Path, **write: Any) -> None:
    rate = {} if path.suffix == ".mkv" else {"rate": 24}
    stages: list[Any] = [{"use": "read", "path": str(path), **rate}, {"use": "paint_reel"}]
    result = bwpipe.run({"plugins": [str(plugins)], "stages": [*stages, {"use": "write", "path": str(out), **write}]})
    assert not result.failed, result.failed


def verify(*arguments: Any) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["verify", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.mark.parametrize("kind", ["png8", "tiff16", "dpx", "exr"])
def test_frames_with_only_colour_added_are_found_to_be_so(kind: Kind, tmp_path: Path, plugins: Path) -> None:
    write_reel(tmp_path / "in", kind, FRAMES)
    path = tmp_path / "in" / f"reel1_%06d{SUFFIXES[kind]}"

    run(path, tmp_path / "out", plugins, verify=True)

    for output in (tmp_path / "out", tmp_path / "out" / path.name):
        code, text = verify(path, output)
        assert code == 0, text
        assert "8 of 8 frames" in text


@pytest.mark.parametrize(
    ("kind", "target"), [("png8", "dpx"), ("png8", "exr"), ("dpx", "tiff"), ("dpx", "exr"), ("exr", "png"), ("tiff16", "jpeg")]
)
def test_frames_of_another_format_are_compared_as_far_as_it_holds_them(
    kind: Kind, target: str, tmp_path: Path, plugins: Path
) -> None:
    write_reel(tmp_path / "in", kind, FRAMES)
    path = tmp_path / "in" / f"reel1_%06d{SUFFIXES[kind]}"

    run(path, tmp_path / "out", plugins, format=target)

    code, text = verify(path, tmp_path / "out")
    assert code == 0, text


def test_a_reel_and_the_film_made_of_it_are_compared_by_time(tmp_path: Path, plugins: Path) -> None:
    write_reel(tmp_path / "in", "tiff16", FRAMES)
    path = tmp_path / "in/reel1_%06d.tif"

    run(path, tmp_path / "out", plugins, codec="ffv1", verify=True, **{"as": "film"})

    assert verify(path, tmp_path / "out/reel1.mkv", "--rate", "24")[0] == 0
    assert verify(path, tmp_path / "out/reel1.mkv", "--rate", "25")[0] == 1


def test_a_film_and_the_frames_made_of_it_are_compared(tmp_path: Path, plugins: Path) -> None:
    film = make_film(tmp_path / "film.mkv", MKV)

    run(film, tmp_path / "out", plugins, format="tiff", verify=True, **{"as": "frames"})

    code, text = verify(film, tmp_path / "out")
    assert code == 0, text


def _brighter_png(path: Path) -> None:
    image = np.asarray(Image.open(path)).copy()
    image[10:20, 10:20] += 3
    Image.fromarray(image).save(path)


def _other_time_code(path: Path) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(">I", data, 1920, 0x11111111)
    path.write_bytes(bytes(data))


def _darker_light(path: Path) -> None:
    data = path.read_bytes()
    light = np.full((64, 96), 0.3, np.float16)
    path.write_bytes(exr.encode(dict.fromkeys("RGB", light), data))


@pytest.mark.parametrize(
    ("kind", "damage", "difference"),
    [
        ("png8", _brighter_png, "luma"),
        ("png8", Path.unlink, "1 of its numbers are missing: 5"),
        ("dpx", _other_time_code, "reel1_000005.dpx: its time code differs"),
        ("exr", _darker_light, "light differs"),
    ],
)
def test_each_difference_is_named(
    kind: Kind, damage: Callable[[Path], None], difference: str, tmp_path: Path, plugins: Path
) -> None:
    write_reel(tmp_path / "in", kind, FRAMES)
    path = tmp_path / "in" / f"reel1_%06d{SUFFIXES[kind]}"
    run(path, tmp_path / "out", plugins)

    damage(tmp_path / "out" / f"reel1_000005{SUFFIXES[kind]}")

    code, text = verify(path, tmp_path / "out")
    assert code == 1
    assert difference in text
