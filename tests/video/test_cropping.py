"""Cropping that the container states: the inputs and the checks of this test read and write its bytes themselves."""

import struct
from pathlib import Path
from typing import Any

import av
import pytest

from bwpipe.core.context import RunContext
from bwpipe.testing import run_stage
from tests.support.made_films import MKV, Kind, make_film, opened
from tests.video.test_side_data import remuxed

WIDTH, HEIGHT, SHOWN = 96, 64, (80, 56)


def with_clean_aperture(path: Path) -> Path:
    """Write a QuickTime film of which 80x56 pixels are shown, 8 to the right and 2 below the middle of 96x64."""
    plain = make_film(path.with_name("plain.mov"), Kind(suffix=".mov", size=(WIDTH, HEIGHT)))
    data = bytearray(plain.read_bytes())
    box = struct.pack(">I4s8i", 40, b"clap", SHOWN[0], 1, SHOWN[1], 1, 4, 1, 2, 1)
    at = data.index(b"avc1", data.index(b"stsd")) - 4
    end = at + int.from_bytes(data[at : at + 4], "big")
    data[end:end] = box
    for kind in (b"avc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        at = data.rindex(kind, 0, end) - 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + len(box)).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def aperture(path: Path) -> tuple[int, ...] | None:
    data = path.read_bytes()
    at = data.find(b"clap")
    return None if at < 0 else struct.unpack_from(">8i", data, at + 4)


def pixel_crops(path: Path) -> dict[str, int]:
    """Rows and columns that a Matroska file crops; each number is stored in one byte."""
    data, names = (
        path.read_bytes()[:1000],
        {"top": b"\x54\xbb", "bottom": b"\x54\xaa", "left": b"\x54\xcc", "right": b"\x54\xdd"},
    )
    return {edge: data[data.index(name) + 3] for edge, name in names.items() if name + b"\x81" in data}


def written(source: Path, out: Path, **options: Any) -> Path:
    out.mkdir()
    run_stage("write", run_stage("read", path=str(source)), path=str(out), **options)
    return next(path for path in out.iterdir() if path.is_file())


@pytest.mark.parametrize("codec", ["h264", "h265", "prores", "mpeg4"])
def test_the_clean_aperture_of_quicktime_is_kept(codec: str, tmp_path: Path) -> None:
    source = with_clean_aperture(tmp_path / "film.mov")

    output = written(source, tmp_path / "out", codec=codec)

    assert output.suffix == ".mov"
    assert aperture(output) == aperture(source) == (80, 1, 56, 1, 4, 1, 2, 1)
    film = opened(output)
    assert (film.width, film.height, len(film.times)) == (WIDTH, HEIGHT, 30)
    assert film.tags == opened(source).tags


@pytest.mark.parametrize("codec", ["h264", "ffv1", "av1", "libvpx-vp9"])
def test_the_cropping_of_matroska_is_kept(codec: str, tmp_path: Path) -> None:
    source = remuxed(with_clean_aperture(tmp_path / "film.mov"), tmp_path / "film.mkv")

    output = written(source, tmp_path / "out", codec=codec)

    assert pixel_crops(output) == pixel_crops(source) == {"top": 6, "bottom": 2, "left": 12, "right": 4}
    assert opened(output).cropping == (6, 2, 12, 4)


def test_cropping_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    source = remuxed(with_clean_aperture(tmp_path / "film.mov"), tmp_path / "film.mkv")
    run = RunContext()
    (tmp_path / "out").mkdir()

    run_stage("write", run_stage("read", path=str(source)), run=run, path=str(tmp_path / "out"), codec="magicyuv")

    cropping = "6 at the top, 2 at the bottom, 12 at the left, 4 at the right"
    assert run.remarks[f"its cropping ({cropping}) is lost: it can't be written with magicyuv"] == 1


def test_a_film_without_cropping_has_none_afterwards(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mkv", MKV)

    output = written(source, tmp_path / "out")

    assert pixel_crops(output) == {}
    with av.open(str(output)) as film:
        assert (film.streams.video[0].width, film.streams.video[0].height) == (WIDTH, HEIGHT)
