"""Interlaced films: the network's input, and deinterlacing of luma on request."""

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

from bwpipe import Frame
from bwpipe.core.frame import Luma
from bwpipe.core.provenance import Provenance, read_note
from bwpipe.engine.run import run
from bwpipe.testing import run_stage
from bwpipe.verify.verdict import Limits
from bwpipe.verify.video import verify_video
from bwpipe.video.interlacing import deinterlace, first_field, of_one_moment
from bwpipe.video.pixel_formats import plane
from tests.cli.test_commands import bwpipe
from tests.support.made_films import KINDS, Kind, make_film, moments, opened, read
from tests.support.remuxed import recoded

INTERLACED = {
    "H.264 with B-frames": replace(KINDS["interlaced"], options={"flags": "+ildct+ilme", "g": "8", "bf": "2"}),
    "MPEG-2": KINDS["interlaced, MPEG-2"],
    "10 bits": replace(KINDS["interlaced"], pix_fmt="yuv420p10le"),
}


def moving_bar(number: int) -> NDArray[np.uint8]:
    """An interlaced frame with a moving bar, which has moved on in the later, bottom field."""
    luma = np.full((64, 96), 40, np.uint8)
    luma[0::2, 10 + 4 * number : 18 + 4 * number] = 200
    luma[1::2, 12 + 4 * number : 20 + 4 * number] = 200
    return luma


@pytest.fixture(scope="module")
def bar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of the bar, top field first."""
    path = tmp_path_factory.mktemp("bar") / "bar.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"flags": "+ildct+ilme", "qp": "0"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(12):
            frame = VideoFrame(96, 64, "yuv420p")
            planes: list[Any] = [moving_bar(number), 128, 128]
            for index, samples in enumerate(planes):
                plane(frame, index, 8, writeable=True)[:] = samples
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def written(source: Path, out: Path, segment: int | str = 7, **options: Any) -> Path:
    """The output of a graph that deinterlaces a film."""
    stages = [
        {"use": "read", "path": str(source), "deinterlace": "bwdif", **options},
        {"use": "grayscale"},
        {"use": "write", "path": str(out), "codec": "ffv1", "verify": True},
    ]
    assert run({"segment": segment, "stages": stages}).exit_code == 0
    return next(path for path in out.iterdir() if path.is_file())


def test_the_guide_has_one_field_only_and_the_luma_is_kept(bar: Path) -> None:
    frame = read(opened(bar))[3]

    (output,) = run_stage("grayscale", [frame], levels="off", denoise="off")

    assert opened(bar).fields == "tff"
    assert output.luma is frame.luma
    lines = {tuple(line) for line in output.guide}
    assert len(lines) == 1
    assert len({tuple(line) for line in frame.luma}) == 2


@pytest.mark.parametrize(("fields", "kept"), [("tff", 0), ("bff", 1)])
@pytest.mark.parametrize("height", [1, 2, 7, 8])
def test_first_field_interpolates_the_other_field(fields: Any, kept: int, height: int) -> None:
    luma: Luma = np.random.default_rng(7).integers(0, 1024, (height, 5)).astype(np.uint16)

    filled = first_field(luma, fields)

    assert_array_equal(filled[kept::2], luma[kept::2])
    if height == 8:
        assert_array_equal(filled[3 + kept], (luma[2 + kept].astype(int) + luma[4 + kept] + 1) // 2)
        edge = 7 if fields == "tff" else 0
        assert_array_equal(filled[edge], luma[abs(edge - 1)])


@pytest.mark.parametrize("name", INTERLACED)
def test_deinterlacing_gives_the_same_frames_in_segments_of_any_size(name: str, tmp_path: Path) -> None:
    source = make_film(tmp_path / f"film{INTERLACED[name].suffix}", INTERLACED[name])
    film = opened(source)
    assert film.fields

    whole = opened(written(source, tmp_path / "whole", "off"))
    parts = opened(written(source, tmp_path / "parts", 7))

    assert (whole.fields, parts.fields) == ("", "")
    assert moments(whole) == moments(parts) == moments(film)
    kept = 0 if film.fields == "tff" else 1
    changed = 0
    for before, one, other in zip(read(film), read(whole), read(parts), strict=True):
        assert_array_equal(one.luma, other.luma)
        assert_array_equal(one.luma[kept::2], before.luma[kept::2])
        changed += bool((one.luma != before.luma).any())
    assert changed == len(film.times)


def test_a_deinterlaced_output_is_compared_with_the_deinterlaced_input(bar: Path, tmp_path: Path) -> None:
    output = written(bar, tmp_path)

    printed = bwpipe("verify", str(bar), str(output))

    assert "only colour was added" in printed
    assert "note: luma changed on request (deinterlace)" in printed
    provenance = read_note(opened(output).metadata[0])[1]
    assert provenance is not None
    assert provenance.stages[0]["deinterlace"] == "bwdif"


def test_a_sample_that_differs_from_the_filter_output_is_found(bar: Path, tmp_path: Path) -> None:
    def change(number: int, luma: Any) -> Any:
        luma[41, 17] ^= number == 5
        return luma

    comment = Provenance("0.1.0", ({"stage": "read", "deinterlace": "bwdif"},)).line()
    output = recoded(written(bar, tmp_path), tmp_path / "output.mkv", "ffv1", change, comment=comment)

    (difference,) = verify_video(opened(bar), opened(output), Limits()).differences

    assert difference.startswith("the luma of 1 frames differs: first in frame 5 at (17, 41)")


def test_unrequested_deinterlacing_is_found(bar: Path, tmp_path: Path) -> None:
    comment = Provenance("0.1.0", ({"stage": "read", "deinterlace": "off"},)).line()
    output = recoded(written(bar, tmp_path), tmp_path / "output.mkv", "ffv1", comment=comment)

    scan_type, luma = verify_video(opened(bar), opened(output), Limits()).differences

    assert scan_type == "its scan type is progressive instead of interlaced, top field first"
    assert luma.startswith("the luma of 12 frames differs")


def test_progressive_films_are_unchanged(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mp4", Kind(times=range(0, 5 * 512, 512)))

    output = written(source, tmp_path / "out")

    for before, after in zip(read(opened(source)), read(opened(output)), strict=True):
        assert_array_equal(before.luma, after.luma)
    assert "on request" not in bwpipe("verify", str(source), str(output))


def test_a_frame_depends_on_its_immediate_neighbours_only(bar: Path) -> None:
    film = of_one_moment(opened(bar))
    frames = read(opened(bar))

    def deinterlaced(*numbers: int) -> dict[int, Frame]:
        return {frame.index: frame for frame in deinterlace(iter([frames[number] for number in numbers]), film)}

    whole, gapped = deinterlaced(*range(12)), deinterlaced(0, 1, 2, 3, 5, 6, 7, 8)
    assert sorted(gapped) == [0, 1, 2, 3, 5, 6, 7, 8]
    for number in (0, 1, 2, 6, 7):
        assert_array_equal(gapped[number].luma, whole[number].luma)
    assert_array_equal(gapped[3].luma, deinterlaced(2, 3)[3].luma)
    assert_array_equal(gapped[5].luma, deinterlaced(5, 6)[5].luma)
