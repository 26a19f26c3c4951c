"""Films with more bits than the output's encoder has: refused with advice, or rounded on request."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bwpipe.core.context import RunContext
from bwpipe.core.provenance import read_note
from bwpipe.errors import MediaError
from bwpipe.testing import coloured, run_stage
from bwpipe.verify.verdict import Limits
from bwpipe.verify.video import verify_video
from bwpipe.video.file import ColourTags
from tests.runs.test_colour_films import written
from tests.support.made_films import MKV, Kind, make_film, opened, read

GREY = replace(MKV, pix_fmt="gray16le")
LIMITED = replace(MKV, pix_fmt="yuv420p12le")
FULL = replace(LIMITED, tags=ColourTags(2, 1, 1, 1))


@pytest.mark.parametrize(
    ("kind", "codec", "pix_fmt", "to"),
    [
        (GREY, "h264", "yuv420p10le", 10),
        (GREY, "ffv1", "yuv420p", 8),
        (GREY, "ffv1", "yuv420p12le", 12),
        (LIMITED, "ffv1", "yuv420p10le", 10),
        (LIMITED, "ffv1", "yuv444p", 8),
        (FULL, "ffv1", "yuv420p10le", 10),
    ],
)
def test_fewer_bits_on_request_round_the_samples(kind: Kind, codec: str, pix_fmt: str, to: int, tmp_path: Path) -> None:
    source, run = make_film(tmp_path / "film.mkv", kind), RunContext()
    film = opened(source)
    (tmp_path / "out").mkdir()
    frames = [coloured(frame, 0.2, -0.1) for frame in run_stage("read", path=str(source))]

    run_stage("write", frames, run=run, path=str(tmp_path / "out"), codec=codec, pix_fmt=pix_fmt)

    assert run.remarks[f"its {film.depth}-bit samples are rounded to {to} bits, as `pix_fmt` asks for"] == 1
    output = opened(tmp_path / "out" / "film.mkv")
    assert (output.depth, output.tags, len(output.times)) == (to, film.tags, len(film.times))
    scale = (2**to - 1) / (2**film.depth - 1) if film.levels[0] == 0 else 2.0 ** (to - film.depth)
    for before, after in zip(read(film), read(output), strict=True):
        expected = np.minimum(np.floor(before.luma * scale + 0.5), 2**to - 1)
        if codec == "ffv1":
            assert_array_equal(after.luma, expected)
        else:
            assert abs(float(np.mean(after.luma - expected))) < 1


def test_white_stays_white_and_black_stays_black_in_full_range(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mkv", GREY)
    (tmp_path / "out").mkdir()
    frames = run_stage("read", path=str(source))
    ends = np.zeros_like(frames[0].luma)
    ends[:, ::2] = 65535

    run_stage(
        "write", [replace(frame, luma=ends) for frame in frames], path=str(tmp_path / "out"), codec="ffv1", pix_fmt="yuv420p"
    )

    assert set(read(opened(tmp_path / "out" / "film.mkv"))[0].luma.ravel()) == {0, 255}


@pytest.mark.parametrize(
    ("kind", "codec", "advice"),
    [
        (GREY, "h264", "choose another `codec` (`ffv1` would keep all of it), or fewer bits with `pix_fmt: yuv420p10le`"),
        (LIMITED, "h264", "(`h265` and `ffv1` would keep all of it), or fewer bits with `pix_fmt: yuv420p10le`"),
        (LIMITED, "prores", "(`h265` and `ffv1` would keep all of it), or fewer bits with `pix_fmt: yuv422p10le`"),
        (replace(MKV, pix_fmt="gbrp16le"), "h265", "(`ffv1` would keep all of it), or fewer bits with `pix_fmt: yuv444p12le`"),
    ],
)
def test_too_many_bits_are_refused_and_what_would_work_is_named(kind: Kind, codec: str, advice: str, tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mkv", kind)
    (tmp_path / "out").mkdir()

    with pytest.raises(MediaError) as caught:
        run_stage("write", run_stage("read", path=str(source)), path=str(tmp_path / "out"), codec=codec)

    assert str(caught.value).endswith(advice)


def test_the_metadata_say_that_samples_were_rounded(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mkv", GREY)

    fewer = written(source, tmp_path / "fewer", pix_fmt="yuv420p10le", verify=True)
    same = written(source, tmp_path / "same")

    for output, claims in ((fewer, ["10 bits"]), (same, [])):
        _, provenance = read_note(opened(output).metadata[0])
        assert provenance is not None
        assert provenance.luma == claims


def test_rounded_samples_are_compared_as_rounded(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mkv", GREY)
    output = written(source, tmp_path / "out", pix_fmt="yuv420p10le")

    verdict = verify_video(opened(source), opened(output), Limits())

    assert verdict.differences == []
    assert verdict.facts["luma"]["max"] == 0
    assert "its 16-bit samples are rounded to 10 bits" in verdict.remarks
