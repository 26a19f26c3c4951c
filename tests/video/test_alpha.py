"""Alpha channels of films."""

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

from bwpipe.core.context import RunContext
from bwpipe.testing import run_stage

COUNT, SIZE = 5, (64, 48)
FORMATS = {"ya8": (2, 1), "bgra": (4, 3), "yuva420p": (1, 0), "yuva444p10le": (1, 0), "gbrap12le": (1, 0), "ya16be": (2, 1)}
"""For each format how many samples there are in turns in the plane that holds alpha, and which of them alpha is."""
DEPTHS = {"yuva444p10le": 10, "gbrap12le": 12, "ya16be": 16}
TYPES = {8: "u1", 10: "<u2", 12: "<u2", 16: ">u2"}


def alpha_of(number: int, depth: int) -> NDArray[np.uint16]:
    """(h, w): a ramp from transparent to opaque that moves."""
    across, down = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    eight = (4 * across + 3 * down + 20 * number) % 256
    return (eight * ((1 << depth) - 1) // 255).astype(np.uint16)


def make_transparent(path: Path, codec: str, pix_fmt: str, options: dict[str, str] | None = None) -> Path:
    depth = DEPTHS.get(pix_fmt, 8)
    step, place = FORMATS[pix_fmt]
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options=options or {})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = *SIZE, pix_fmt, 1
        for number in range(COUNT):
            frame = VideoFrame(*SIZE, pix_fmt)
            for index, samples in enumerate(frame.planes):
                memory = np.frombuffer(memoryview(samples), TYPES[depth]).reshape(samples.height, -1)
                memory[:] = 1 << (depth - 1)
                if step == 1 and index == 0:  # the luma, or green
                    memory[:, : SIZE[0]] = alpha_of(3 * number, depth)
                if index == len(frame.planes) - 1:
                    memory[:, place : step * SIZE[0] : step] = alpha_of(number, depth)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def alphas(path: Path) -> list[NDArray[Any] | None]:
    return [frame.alpha for frame in run_stage("read", path=str(path))]


def written(source: Path, out: Path, run: RunContext | None = None, **options: Any) -> Path:
    out.mkdir()
    run_stage("write", run_stage("read", path=str(source)), run=run, path=str(out), **options)
    return next(path for path in out.iterdir() if path.is_file())


@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_alpha_is_read_and_written_unchanged_in_ffv1(pix_fmt: str, tmp_path: Path) -> None:
    suffix, codec = (".mov", "png") if pix_fmt == "ya16be" else (".mkv", "ffv1")
    source = make_transparent(tmp_path / f"film{suffix}", codec, pix_fmt)

    output = written(source, tmp_path / "out", codec="ffv1")

    assert_array_equal(alphas(source), [alpha_of(number, DEPTHS.get(pix_fmt, 8)) for number in range(COUNT)])
    assert_array_equal(alphas(output), alphas(source))


@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
def test_a_lost_alpha_channel_is_named(codec: str, tmp_path: Path) -> None:
    source, run = make_transparent(tmp_path / "film.mkv", "ffv1", "yuva420p"), RunContext()

    output = written(source, tmp_path / "out", run, codec=codec)

    assert alphas(output) == [None] * COUNT
    lost = f"its alpha channel is lost: {codec} in yuv420p has none; `codec: ffv1` or `prores` would keep it"
    assert run.remarks[lost] == 1


def test_prores_4444_keeps_10_bits_of_alpha(tmp_path: Path) -> None:
    source = make_transparent(tmp_path / "film.mkv", "ffv1", "yuva444p10le")

    output = written(source, tmp_path / "out", codec="prores")

    for number, alpha in enumerate(alphas(output)):  # decoders of ProRes 4444 give 12 bits
        assert alpha is not None
        assert_array_equal(alpha >> 2, alpha_of(number, 10))


def test_8_bits_of_alpha_stay_transparent_and_opaque_in_prores(tmp_path: Path) -> None:
    source = make_transparent(tmp_path / "film.mkv", "ffv1", "yuva420p")

    output = written(source, tmp_path / "out", codec="prores")

    for number, alpha in enumerate(alphas(output)):
        assert alpha is not None
        assert_array_equal(np.rint(alpha / 4095 * 255), alpha_of(number, 8))
        assert (alpha.min(), alpha.max()) == (0, 4095)


def test_alpha_of_vp9_is_read_and_written(tmp_path: Path) -> None:
    source = make_transparent(tmp_path / "film.webm", "libvpx-vp9", "yuva420p", {"lossless": "1"})

    as_ffv1 = written(source, tmp_path / "ffv1", codec="ffv1")
    as_vp9 = written(source, tmp_path / "vp9", codec="libvpx-vp9", options={"lossless": "1"})

    assert as_vp9.suffix == ".webm"
    assert_array_equal(alphas(source), [alpha_of(number, 8) for number in range(COUNT)])
    for output in (as_ffv1, as_vp9):
        assert_array_equal(alphas(output), alphas(source))
    with av.open(str(as_ffv1)) as film:
        assert "alpha_mode" not in {key.lower() for key in film.streams.video[0].metadata}


def test_alpha_of_vp9_in_mp4_is_named_as_lost(tmp_path: Path) -> None:
    source, run = make_transparent(tmp_path / "film.mov", "prores_ks", "yuva444p10le"), RunContext()

    written(source, tmp_path / "out", run, codec="libvpx-vp9", pix_fmt="yuva420p")

    assert any(text.startswith("its alpha channel is lost: libvpx-vp9 in .mp4 has none") for text in run.remarks)


def test_a_frame_without_alpha_is_opaque_in_a_film_that_has_some(tmp_path: Path) -> None:
    source = make_transparent(tmp_path / "film.mkv", "ffv1", "yuva420p")
    (tmp_path / "out").mkdir()

    frames = [replace(frame, alpha=None) for frame in run_stage("read", path=str(source))]
    run_stage("write", frames, path=str(tmp_path / "out"), codec="ffv1")

    for alpha in alphas(tmp_path / "out" / "film.mkv"):
        assert alpha is not None
        assert (alpha == 255).all()
