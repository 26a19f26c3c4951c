"""Films that are in colour already, through whole runs: `grayscale.colour` and `grayscale.weights`."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import bwpipe
from bwpipe import Media, Unit
from bwpipe.core.provenance import read_note
from bwpipe.pixels.ycbcr import WEIGHTS
from bwpipe.testing import run_stage
from bwpipe.video.file import VideoFile
from tests.image.test_write import opened as opened_picture
from tests.support.made_films import MKV, make_film, opened
from tests.support.made_pictures import make_picture
from tests.video.test_alpha import make_transparent
from tests.video.test_side_data import make_captioned

COUNT, SIZE = 12, (64, 48)
REPLACED = "already in colour; its colours are replaced"
KEPT = "already in colour; its colours are kept (`colour: recolour` would replace them)"


def make(path: Path, pix_fmt: str = "yuv420p", codec: str = "ffv1", colour: str = "colour", coloured: int = COUNT) -> Path:
    """Write a film in grey, in sepia, or in colour from its first frame up to `coloured`."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pix_fmt
        for number in range(COUNT):
            frame = VideoFrame(*SIZE, pix_fmt)
            depth = frame.format.components[0].bits
            for index, samples in enumerate(frame.planes):
                rows = np.frombuffer(memoryview(samples), np.uint8 if depth == 8 else "<u2").reshape(samples.height, -1)
                down, across = np.mgrid[: rows.shape[0], : rows.shape[1]]
                if index == 0:
                    base = 60 + (3 * across + 2 * down + 5 * number) % 120
                elif colour == "sepia":
                    base = np.full(rows.shape, 110 if index == 1 else 145)
                elif colour == "grey" or number >= coloured:
                    base = np.full(rows.shape, 128)
                else:
                    base = 128 + np.rint((50 - 15 * index) * np.sin(across * (0.5 - 0.2 * index) + down / 9 + number / 5))
                # low bits that 8 bits could not hold
                rows[:] = base.astype(int) * (1 << depth - 8) + (
                    number * (index > 0) * (colour == "colour") if depth > 8 else 0
                )
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def planes(path: Path) -> list[list[NDArray[Any]]]:
    with av.open(str(path)) as film:
        frames = list(film.decode(video=0))
    kind = np.uint8 if frames[0].format.components[0].bits == 8 else "<u2"
    return [
        [np.frombuffer(memoryview(part), kind).reshape(part.height, -1)[:, : part.width] for part in frame.planes]
        for frame in frames
    ]


def written(source: Path, out: Path, *stages: dict[str, Any], segment: int | str = "off", **options: Any) -> Path:
    graph = [{"use": "read", "path": str(source)}, *stages, {"use": "write", "path": str(out), "codec": "ffv1", **options}]
    assert not bwpipe.run({"segment": segment, "stages": graph}).failed
    return next(path for path in out.iterdir() if path.is_file())


@pytest.mark.parametrize("segment", ["off", 5])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv444p12le", "yuv420p16le"])
def test_a_kept_film_has_the_same_chroma_codes(
    pix_fmt: str, segment: int | str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make(tmp_path / "film.mkv", pix_fmt)

    output = written(source, tmp_path / "out", {"use": "grayscale"}, segment=segment)

    for before, after in zip(planes(source), planes(output), strict=True):
        for one, other in zip(before, after, strict=True):
            assert_array_equal(one, other)
    assert capsys.readouterr().err.count(KEPT) == 1


@pytest.mark.parametrize("steps", [["shots", "colorize", "steady"], ["colorize"]])
def test_a_kept_film_passes_the_network_and_the_filter_unchanged(steps: list[str], tmp_path: Path) -> None:
    source = make(tmp_path / "film.mkv")
    stages = [{"use": "grayscale", "colour": "keep", "weights": "red"}, *({"use": step} for step in steps)]

    output = written(source, tmp_path / "out", *stages, segment=5)

    assert_array_equal(np.stack([frame[1] for frame in planes(output)]), np.stack([frame[1] for frame in planes(source)]))
    _, provenance = read_note(opened(output).metadata[0])
    assert provenance is not None
    assert not any("network" in stage for stage in provenance.stages)  # it added no colour
    assert provenance.luma == []  # nor did `weights` act


def test_a_film_to_be_recoloured_loses_its_chroma_and_that_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make(tmp_path / "film.mkv")

    output = written(source, tmp_path / "out", {"use": "grayscale", "colour": "recolour"}, segment=5)

    assert all((frame[1] == 128).all() for frame in planes(output))
    assert_array_equal(np.stack([frame[0] for frame in planes(output)]), np.stack([frame[0] for frame in planes(source)]))
    assert capsys.readouterr().err.count(REPLACED) == 1


def test_weights_act_on_a_film_in_colour_and_the_metadata_say_so(tmp_path: Path) -> None:
    source = make(tmp_path / "film.mkv", "yuv444p12le")

    output = written(source, tmp_path / "out", {"use": "grayscale", "colour": "recolour", "weights": "red"})

    luma, cb, cr = (np.stack(plane).astype(float) for plane in zip(*planes(source), strict=True))
    del cb
    red = luma + (cr - 2048) / 3584 * 2 * (1 - WEIGHTS["bt601"].red) * 3504
    after = np.stack([frame[0] for frame in planes(output)])
    assert np.abs(after - np.clip(red, 256, 3760)).max() <= 2  # float16 holds 11 bits of chroma
    _, provenance = read_note(opened(output).metadata[0])
    assert provenance is not None
    assert provenance.luma == ["weights: red"]


def test_weights_of_an_interlaced_film_keep_its_fields_apart(tmp_path: Path) -> None:
    source = make(tmp_path / "film.mkv")
    frame = run_stage("read", path=str(source))[0]
    across = frame.luma.shape[1]
    lines = frame.chroma.copy()
    lines[:, 0::2], lines[:, 1::2] = 0.1, -0.1  # the two fields have opposite colours
    media = frame.unit.media
    combed = replace(frame, chroma=lines, luma=np.full_like(frame.luma, 120), unit=Unit(replace(media, fields="tff")))

    luma = run_stage("grayscale", [combed], colour="recolour", weights="red")[0].luma.astype(int)

    assert len(set(luma[0::2].ravel())) == len(set(luma[1::2].ravel())) == 1
    assert luma[0, across // 2] > 130
    assert luma[1, across // 2] < 110


@pytest.mark.parametrize("colour", ["grey", "sepia"])
def test_only_a_changed_luma_is_claimed(colour: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make(tmp_path / "film.mkv", colour=colour)

    output = written(source, tmp_path / "out", {"use": "grayscale", "weights": "red"}, verify=True)

    _, provenance = read_note(opened(output).metadata[0])
    assert provenance is not None
    assert provenance.luma == ([] if colour == "grey" else ["weights: red"])
    assert ("its tint is dropped" in capsys.readouterr().err) == (colour == "sepia")
    same = all((one[0] == other[0]).all() for one, other in zip(planes(source), planes(output), strict=True))
    assert same == (colour == "grey")


def test_a_film_that_is_partly_in_colour_is_replaced_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make(tmp_path / "film.mkv", coloured=COUNT // 3)

    output = written(source, tmp_path / "out", {"use": "grayscale", "colour": "keep"})

    assert opened(source).colour == "grey"
    assert all((frame[1] == 128).all() for frame in planes(output))
    assert "33% of the frames looked at are in colour, which is replaced as in the others" in capsys.readouterr().err


def test_the_chroma_of_a_kept_film_is_deinterlaced_with_its_luma(tmp_path: Path) -> None:
    source = make(tmp_path / "film.mkv", "yuv444p")
    marked = tmp_path / "marked.mkv"
    with av.open(str(source)) as film, av.open(str(marked), "w") as output:
        stream = output.add_stream("ffv1", rate=25, options={"flags": "+ildct"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv444p"
        graph = av.filter.Graph()
        graph.link_nodes(
            graph.add_buffer(template=film.streams.video[0]), graph.add("setfield", "tff"), graph.add("buffersink")
        )
        graph.configure()
        for frame in film.decode(video=0):
            graph.push(frame)
            output.mux(stream.encode(graph.pull()))  # type: ignore[arg-type]
        output.mux(stream.encode(None))
    assert opened(marked).fields == "tff"

    frames = run_stage("read", path=str(marked), deinterlace="bwdif")

    for frame, (luma, cb, cr) in zip(frames, planes(source), strict=True):
        assert frame.stored is not None
        assert frame.stored.chroma is frame.chroma
        for before, after in zip((luma, cb, cr), (frame.luma, *frame.stored.codes), strict=True):
            assert_array_equal(after[0::2], before[0::2])
            assert (after[1::2] != before[1::2]).any()


def test_that_colours_are_kept_now_concerns_only_what_can_be_in_colour(tmp_path: Path) -> None:
    grey, sepia, colour = (make(tmp_path / f"{name}.mkv", colour=name) for name in ("grey", "sepia", "colour"))
    make_picture(tmp_path, "png-grey")
    make_picture(tmp_path, "webp-colour")
    pictures = {path.suffix: opened_picture(path) for path in tmp_path.glob("*.[pw]*")}

    def recipes(media: Media) -> list[str]:
        graphs: Sequence[dict[str, str]] = ({}, {"colour": "keep"}, {"colour": "recolour"})
        read, write = {"use": "read", "path": "in"}, {"use": "write", "path": "out"}
        nodes = [bwpipe.read_graph({"stages": [read, {"use": "grayscale", **each}, write]}).nodes[1] for each in graphs]
        return [node.stage.recipe(Unit(media))["colour"] for node in nodes]

    for media in (opened(grey), opened(sepia), pictures[".png"]):
        assert recipes(media) == ["recolour", "recolour", "recolour"]  # as those of 0.1.0, and what is done is not done again
    for media in (opened(colour), pictures[".webp"]):
        assert recipes(media) == ["keep", "keep", "recolour"]


def test_only_films_that_come_out_differently_are_announced(tmp_path: Path) -> None:
    plain, colour = make(tmp_path / "grey.mkv", colour="grey"), make(tmp_path / "colour.mkv")
    transparent = make_transparent(tmp_path / "transparent.mkv", "ffv1", "yuva420p")
    captioned = make_captioned(tmp_path / "captioned.ts", "libx264")
    deep = make_film(tmp_path / "deep.mkv", replace(MKV, pix_fmt="gray12le"))

    def revisions(
        path: Path, media: VideoFile | None = None, frames: int = 200, codec: str = "h264", **options: Any
    ) -> list[int]:
        unit = Unit(replace(media or opened(path), times=np.arange(frames)))
        write = {"use": "write", "path": str(tmp_path), "codec": codec}
        graph = [{"use": "read", "path": str(path)}, {"use": "grayscale", **options}, write]
        return [node.stage.revision_for(unit) for node in bwpipe.read_graph({"stages": graph}).nodes[1:]]

    assert revisions(plain) == revisions(colour, colour="recolour") == [2, 3]  # as in 0.1.0
    assert revisions(colour) == revisions(plain, weights="red") == [3, 3]
    assert revisions(transparent) == revisions(captioned) == revisions(deep) == [2, 4]

    assert revisions(plain, codec="libvpx") == revisions(deep, codec="libvpx") == [2, 6]  # VP8

    large = replace(opened(plain), width=1280, height=720)  # the guide is smaller than the luma
    assert revisions(plain, media=large) == [4, 3]
    assert revisions(plain, frames=100) == revisions(plain, media=large, frames=100) == [5, 3]  # levels from other frames
