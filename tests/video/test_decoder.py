import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.testing import assert_array_equal

from bwpipe.core.frame import Unit
from bwpipe.errors import MediaError
from bwpipe.video.decoder import SharedDecoder, read_video
from bwpipe.video.file import VideoFile, open_container
from bwpipe.video.pixel_formats import chroma_codes, layout, luma_plane, plane, rgb_chroma
from tests.support.made_films import AVI, MKV, TS, UNEVEN, Kind, make_film, opened, read, spoil


@pytest.mark.parametrize("name", ["AVI", "10 bits", "10 bits, 4:2:2", "full range", "odd size"])
def test_luma_is_a_read_only_copy_of_the_decoders_plane(corpus: dict[str, VideoFile], name: str) -> None:
    film = corpus[name]
    with open_container(film.path) as container:
        decoded = [plane(frame, 0, film.depth).copy() for frame in container.decode(video=0)]

    for frame, samples in zip(read(film), decoded, strict=True):
        assert frame.luma.base is None, "a view keeps all buffers of the decoder, even those that are free"
        assert not frame.luma.flags.writeable
        assert frame.luma.dtype == samples.dtype
        assert_array_equal(frame.luma, samples)


@pytest.mark.parametrize(
    "pix_fmt", ["yuyv422", "uyvy422", "p010le", "yuv422p12be", "gray16be", "ya8", "v30xle", "nv12", "yuva420p10le"]
)
@pytest.mark.parametrize("color_range", [0, 1, 2])
def test_luma_of_other_pixel_formats_is_exact(pix_fmt: str, color_range: int) -> None:
    form = layout(pix_fmt)
    suffix = f"{form.depth}le" if form.depth > 8 else ""
    frame = VideoFrame(34, 18, "gray" + suffix if form.kind == "grey" else "yuv444p" + suffix)
    frame.color_range = color_range
    for index in range(len(frame.planes)):
        plane(frame, index, form.depth, writeable=True)[:] = 1 << (form.depth - 1)
    luma = np.random.default_rng(7).integers(0, 1 << form.depth, (18, 34))
    plane(frame, 0, form.depth, writeable=True)[:] = luma

    # with more threads, swscale overwrites a few samples of another slice about once in 70 runs
    assert_array_equal(luma_plane(frame.reformat(format=pix_fmt, threads=1), "bt601"), luma)


GRIDS = {
    "yuv420p": ["yuv420p", "nv12", "nv21", "yuva420p"],
    "yuv422p": ["yuyv422", "uyvy422", "yvyu422", "nv16"],
    "yuv444p": ["nv24", "nv42", "vuya", "vuyx"],
    "yuv420p10le": ["p010le", "yuv420p10be"],
    "yuv422p10le": ["p210le", "y210le"],
    "yuv444p10le": ["p410le", "xv30le", "yuva444p10le"],
    "yuv422p12le": ["y212le", "yuv422p12be"],
    "yuv444p16le": ["ayuv64le"],
}


@pytest.mark.parametrize(("planar", "pix_fmt"), [(planar, name) for planar, names in GRIDS.items() for name in names])
@pytest.mark.parametrize("color_range", [1, 2])
def test_chroma_codes_of_any_pixel_format_are_exact(planar: str, pix_fmt: str, color_range: int) -> None:
    depth = layout(planar).depth
    frame = VideoFrame(36, 20, planar)
    frame.color_range = color_range
    random = np.random.default_rng(7)
    planes = [plane(frame, index, depth, writeable=True) for index in range(3)]
    for samples in planes:
        samples[:] = random.integers(0, 1 << depth, samples.shape)

    codes = chroma_codes(frame.reformat(format=pix_fmt, threads=1))

    assert codes is not None
    assert_array_equal(codes, np.stack(planes[1:]))


@pytest.mark.parametrize("pix_fmt", ["rgb24", "bgra", "gbrp", "gbrp12le", "rgba64le", "rgb48le"])
def test_chroma_of_rgb_is_that_of_its_matrix(pix_fmt: str) -> None:
    depth = layout(pix_fmt).depth
    frame = VideoFrame(34, 18, "gbrp" if depth == 8 else f"gbrp{depth}le")
    green, blue, red = np.random.default_rng(7).integers(0, 1 << depth, (3, 18, 34))
    for index, samples in enumerate((green, blue, red)):
        plane(frame, index, depth, writeable=True)[:] = samples
    luma, white = 0.2126 * red + 0.7152 * green + 0.0722 * blue, (1 << depth) - 1

    chroma = rgb_chroma(frame.reformat(format=pix_fmt, threads=1), "bt709")

    assert np.abs(chroma - np.stack([(blue - luma) / white / 1.772, (red - luma) / white / 1.402])).max() < 1e-3


@pytest.mark.parametrize("pix_fmt", ["rgb24", "bgra", "gbrp", "gbrp12le", "rgb48le"])
def test_luma_of_rgb_is_weighted_in_full_range(pix_fmt: str) -> None:
    depth = layout(pix_fmt).depth
    frame = VideoFrame(34, 18, "gbrp" if depth == 8 else f"gbrp{depth}le")
    green, blue, red = np.random.default_rng(7).integers(0, 1 << depth, (3, 18, 34))
    for index, samples in enumerate((green, blue, red)):
        plane(frame, index, depth, writeable=True)[:] = samples

    luma = luma_plane(frame.reformat(format=pix_fmt, threads=1), "bt709")

    assert np.abs(luma - (0.2126 * red + 0.7152 * green + 0.0722 * blue)).max() < 0.51


CUTS = {
    "mp4": Kind(options={"g": "12"}, sound="aac"),
    "one key frame": Kind(times=UNEVEN),
    "open groups": Kind(options={"g": "8", "x264-params": "open-gop=1:bframes=3:b-adapt=0"}),
    "refreshed bit by bit": Kind(options={"g": "8", "x264-params": "intra-refresh=1"}),
    "mkv": replace(MKV, codec="libx264", options={"g": "12"}, sound="aac"),
    "ts": replace(TS, options={"g": "12"}, sound="aac"),
    "avi": replace(AVI, options={"g": "12"}),
    "ffv1": MKV,
    "ps": replace(AVI, suffix=".mpg", codec="mpeg2video", options={"bf": "2", "g": "9"}),
}


@pytest.mark.parametrize("name", CUTS)
def test_segments_read_alone_equal_those_of_the_whole_film(name: str, tmp_path: Path) -> None:
    film = opened(make_film(tmp_path / f"film{CUTS[name].suffix}", CUTS[name]))
    whole = read(film)
    assert len(whole) == len(film.times) >= 29

    for start, stop, context in [(0, 9, 2), (9, 20, 3), (12, 13, 0), (20, None, 5), (28, 29, 40)]:
        end = len(whole) if stop is None else stop
        alone = read(film, start, stop, context)
        expected = whole[max(start - context, 0) : end + context]
        assert [(frame.index, frame.pts, frame.duration) for frame in alone] == [
            (frame.index, frame.pts, frame.duration) for frame in expected
        ]
        assert [frame.context for frame in alone] == [not start <= frame.index < end for frame in expected]
        for one, other in zip(alone, expected, strict=True):
            assert_array_equal(one.luma, other.luma)


@pytest.mark.parametrize(
    ("name", "damaged"),
    [*((name, False) for name in CUTS), *((name, True) for name in ("mp4", "one key frame", "open groups", "mkv"))],
)
def test_segments_from_a_shared_decoder_equal_those_read_alone(name: str, damaged: bool, tmp_path: Path) -> None:
    path = make_film(tmp_path / f"film{CUTS[name].suffix}", CUTS[name])
    film = opened(spoil(path, slice(8, None, 8), kept=0.5) if damaged else path)
    onward = SharedDecoder(film)

    for start, stop, since in [(0, 9, 0), (9, 18, 0), (20, 25, 20), (25, 29, 20), (3, 8, None), (8, 12, 0), (12, 16, 0)]:
        unit = Unit(film, start=start, stop=stop, since=since)
        alone = list(read_video(unit, 3, warn=print))
        shared = list(read_video(unit, 3, warn=print, onward=onward))
        assert [(frame.index, frame.context) for frame in shared] == [(frame.index, frame.context) for frame in alone]
        for one, other in zip(alone, shared, strict=True):
            assert_array_equal(one.luma, other.luma)
    onward.close()


def test_consecutive_segments_are_decoded_in_a_single_pass(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", CUTS["mp4"])
    film = opened(path)
    whole, onward = read(film), SharedDecoder(film)

    frames = list(read_video(Unit(film, stop=9, since=0), 3, warn=print, onward=onward))
    path.unlink()  # the open decoder can still read it
    frames += read_video(Unit(film, start=9, stop=20, since=0), 3, warn=print, onward=onward)
    onward.close()

    assert [frame.index for frame in frames] == [*range(12), *range(6, 23)]
    for frame in frames:
        assert_array_equal(frame.luma, whole[frame.index].luma)


@pytest.mark.parametrize("name", ["mp4", "mkv", "avi"])
def test_a_truncated_film_is_read_up_to_its_end_and_reported(name: str, tmp_path: Path) -> None:
    kind = replace(CUTS[name], times=[time * CUTS[name].times[1] for time in range(60)])
    path = make_film(tmp_path / f"film{kind.suffix}", kind, {"movflags": "faststart"} if name == "mp4" else None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    warnings: list[str] = []

    frames = read(opened(path), warn=warnings.append)

    assert 25 < len(frames) < 45
    assert "cut short" in warnings[0]


def test_frames_that_do_not_decode_are_skipped_and_reported_once(tmp_path: Path) -> None:
    path = spoil(make_film(tmp_path / "film.mkv", replace(MKV, codec="mpeg4")), slice(12, 14))
    warnings: list[str] = []

    frames = read(opened(path), warn=warnings.append)

    assert [frame.index for frame in frames] == [*range(12), *range(14, 30)]
    assert [frame.pts for frame in frames] == [40 * frame.index for frame in frames]
    assert warnings == ["2 of 30 frames failed to decode and are skipped"]


def test_equal_timestamps_are_spread_between_their_neighbours_and_reported(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mkv", replace(MKV, times=[0, 40, 80, 80, 80, 120]))
    warnings: list[str] = []

    frames = read(opened(path), warn=warnings.append)

    assert [frame.pts for frame in frames] == [0, 40, 60, 80, 100, 120]
    assert warnings == [
        "the timestamps of 2 of its 6 frames contradict those around them (first: frame 2)"
        " and are derived from their neighbours"
    ]


def test_frames_of_an_avi_have_even_timestamps_in_display_order(corpus: dict[str, VideoFile]) -> None:
    assert corpus["AVI"].timing == "none"
    assert [frame.pts for frame in read(corpus["AVI"])] == list(range(30))


def test_a_lost_frame_of_an_avi_leaves_the_other_timestamps_unchanged(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.avi", replace(AVI, codec="mpeg4", options={"bf": "2"}))
    whole = read(opened(path))
    warnings: list[str] = []

    remaining = read(opened(spoil(path, slice(15, 16))), warn=warnings.append)

    assert len(remaining) == 29
    assert len(warnings) == 1
    assert [frame.pts for frame in remaining[20:]] == list(range(21, 30))
    assert_array_equal(remaining[-1].luma, whole[-1].luma)


def appended(folder: Path, kind: Kind) -> VideoFile:
    """A film of 30 frames followed by ten frames of another kind."""
    first = make_film(folder / "first.ts", TS)
    second = make_film(folder / "second.ts", replace(kind, times=range(40 * 3600, 50 * 3600, 3600)))
    (folder / "film.ts").write_bytes(first.read_bytes() + second.read_bytes())
    return opened(folder / "film.ts")


def test_frames_of_another_size_are_scaled_to_the_first_and_reported(tmp_path: Path) -> None:
    warnings: list[str] = []

    frames = read(appended(tmp_path, replace(TS, size=(128, 96))), warn=warnings.append)

    assert [frame.luma.shape for frame in frames] == [(64, 96)] * 40
    assert "10 of 40 frames differ in size from the first and are scaled to 96x64" in warnings
    assert abs(float(frames[35].luma.mean()) - float(frames[25].luma.mean())) < 5


def test_a_film_whose_depth_changes_fails_and_the_error_names_the_frame(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"frame 30 is yuv420p10le after yuv420p: cut the film there first"):
        read(appended(tmp_path, replace(TS, pix_fmt="yuv420p10le")))


def test_samples_do_not_stay_in_memory_once_a_frame_is_dropped(tmp_path: Path) -> None:
    film = opened(make_film(tmp_path / "film.mp4", Kind(times=range(0, 60 * 512, 512))))
    gc.collect()
    gc.disable()  # whatever it would free later has stayed too long
    try:
        before = sum(type(each) is VideoFrame for each in gc.get_objects())
        for _ in read_video(Unit(film), warn=pytest.fail):
            pass
        after = sum(type(each) is VideoFrame for each in gc.get_objects())
    finally:
        gc.enable()

    assert after - before < 10
