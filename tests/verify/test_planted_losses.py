"""Real files that lack exactly one thing of their input: each loss is found, whether or not `bwpipe run` would make it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from bwpipe.verify.late_streams import compare_late_streams
from bwpipe.verify.plain_reading import survey
from bwpipe.verify.verdict import Limits, Verdict
from bwpipe.verify.video import verify_video
from tests.support.made_films import TS, make_film, opened
from tests.support.planted import (
    coded_film,
    grey_frame,
    with_active_format,
    with_captions,
    with_clean_aperture,
    with_hdr10_plus,
    with_pixel_crop,
    with_unlisted_stream,
)
from tests.verify.test_image import verified as verified_image
from tests.verify.test_video import verified

Pair = tuple[Path, Path]
JPEG_TABLE = [[2] * 64]


def captions(folder: Path) -> Pair:
    return coded_film(folder / "in.ts", change=with_captions), coded_film(folder / "out.ts")


def one_caption(folder: Path) -> Pair:
    def once(number: int, data: bytes) -> bytes:
        return data if number == 7 else with_captions(number, data)

    return coded_film(folder / "in.ts", change=with_captions), coded_film(folder / "out.ts", change=once)


def changed_caption(folder: Path) -> Pair:
    def other(number: int, data: bytes) -> bytes:
        return with_captions(number + (number == 7), data)

    return coded_film(folder / "in.ts", change=with_captions), coded_film(folder / "out.ts", change=other)


def active_format(folder: Path) -> Pair:
    return coded_film(folder / "in.ts", change=with_active_format), coded_film(folder / "out.ts")


def hdr10_plus(folder: Path) -> Pair:
    return coded_film(folder / "in.ts", "libx265", with_hdr10_plus), coded_film(folder / "out.ts", "libx265")


def group_time_code(folder: Path) -> Pair:
    options = {"gop_timecode": "10:20:30:10"}
    return coded_film(folder / "in.ts", "mpeg2video", options=options), coded_film(folder / "out.ts", "mpeg2video")


def alpha(folder: Path) -> Pair:
    return coded_film(folder / "in.mkv", "ffv1", pix_fmt="yuva420p"), coded_film(folder / "out.mkv", "ffv1")


def opaque_alpha(folder: Path) -> Pair:
    with_alpha = coded_film(folder / "in.mkv", "ffv1", pix_fmt="yuva420p")
    return with_alpha, coded_film(folder / "out.mkv", "ffv1", pix_fmt="yuva420p", alpha=False)


def alpha_of_webm(folder: Path) -> Pair:
    options = {"deadline": "realtime", "auto-alt-ref": "0", "lossless": "1"}
    with_alpha = coded_film(folder / "in.webm", "libvpx-vp9", pix_fmt="yuva420p", options=options, tags={"alpha_mode": "1"})
    return with_alpha, coded_film(folder / "out.webm", "libvpx-vp9", options=options)


def pixel_crop(folder: Path) -> Pair:
    plain = coded_film(folder / "out.mkv")
    return with_pixel_crop(plain, folder / "in.mkv"), plain


def clean_aperture(folder: Path) -> Pair:
    plain = coded_film(folder / "out.mov")
    return with_clean_aperture(plain, folder / "in.mov"), plain


def time_code(folder: Path) -> Pair:
    return coded_film(folder / "in.mov", tags={"timecode": "01:02:03:04"}), coded_film(folder / "out.mov")


def reel_name(folder: Path) -> Pair:
    tags = {"timecode": "01:02:03:04", "reel_name": "REEL7"}
    return coded_film(folder / "in.mov", tags=tags), coded_film(folder / "out.mov", tags={"timecode": "01:02:03:04"})


FILMS: dict[str, tuple[Callable[[Path], Pair], str]] = {
    "captions": (captions, "its closed captions are lost (12 frames had them)"),
    "the caption of one frame": (one_caption, "its closed captions are lost: 11 of 12 frames have them"),
    "one caption's text": (changed_caption, "its closed captions differ in 1 frames, first in frame 7"),
    "active format": (active_format, "its active format descriptions are lost (12 frames had them)"),
    "HDR10+": (hdr10_plus, "its HDR10+ metadata are lost (12 frames had them)"),
    "GOP time code": (group_time_code, "the time code of its first group of pictures, 10:20:30:10, is lost"),
    "alpha": (alpha, "its alpha channel is lost"),
    "alpha made opaque": (opaque_alpha, "the alpha of 12 frames differs, first in frame 0"),
    "alpha of WebM": (alpha_of_webm, "its alpha channel is lost"),
    "PixelCrop": (pixel_crop, "its cropping is lost: 8 at the top, 8 at the bottom"),
    "clap": (clean_aperture, "its cropping is lost: 8 at the left, 8 at the right"),
    "time code": (time_code, "its time code 01:02:03:04 is lost"),
    "reel name": (reel_name, "its reel name REEL7 is lost"),
}


@pytest.mark.parametrize("name", FILMS)
def test_what_a_film_has_lost_is_found_and_only_that(name: str, tmp_path: Path) -> None:
    make, difference = FILMS[name]
    before, after = make(tmp_path)

    found = [text for text in verified(before, after).differences if "'s tag " not in text]  # which containers store it in

    assert found == [difference]
    assert verified(before, before).differences == []


def test_what_the_run_announced_is_a_remark(tmp_path: Path) -> None:
    before, after = captions(tmp_path)
    said = ["its closed captions are lost: ffv1 can't store them"]

    verdict = verify_video(opened(before), opened(after), Limits(), said=said)

    assert verdict.differences == []
    assert "its closed captions are lost (12 frames had them), as the run announced" in verdict.remarks
    assert verify_video(opened(before), opened(after), Limits(), said=["its cropping is lost"]).differences != []


def test_frames_that_the_reader_does_not_see_are_found(tmp_path: Path) -> None:
    before = opened(coded_film(tmp_path / "in.mkv", "ffv1"))
    blind = replace(before, times=before.times[:-3])

    verdict = verify_video(blind, blind, Limits())

    assert verdict.facts["coded_frames"] == {"input": 12, "output": 12}
    assert "the input holds 12 frames that decode, of which 3 were not read, so that they are lost" in verdict.differences


def test_a_stream_that_neither_the_reader_nor_a_demuxer_sees_is_found(tmp_path: Path) -> None:
    before = opened(make_film(tmp_path / "in.ts", TS))
    blind = replace(before, path=with_unlisted_stream(before.path, tmp_path / "late.ts"))

    verdict = Verdict(blind.path, blind.path, "film")
    compare_late_streams(blind, survey(blind), verdict)

    (difference,) = verdict.differences
    assert difference.startswith("the stream 0x123, which begins after ")
    assert verify_video(before, before, Limits()).differences == []


def luma() -> Image.Image:
    return Image.fromarray(np.asarray(grey_frame(3).to_ndarray(format="gray")))


def icc(folder: Path) -> Pair:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    luma().convert("RGB").save(folder / "in.png", icc_profile=profile)
    luma().convert("RGB").save(folder / "out.png")
    return folder / "in.png", folder / "out.png"


def coefficient(folder: Path) -> Pair:
    """One Y coefficient of a JPEG: the mean of a block."""
    luma().save(folder / "in.jpg", qtables=JPEG_TABLE)
    samples = np.asarray(Image.open(folder / "in.jpg")).copy()
    samples[16:24, 32:40] += 4
    Image.fromarray(samples).save(folder / "out.jpg", qtables=JPEG_TABLE)
    return folder / "in.jpg", folder / "out.jpg"


def appended(folder: Path) -> Pair:
    luma().save(folder / "out.jpg", qtables=JPEG_TABLE)
    (folder / "in.jpg").write_bytes((folder / "out.jpg").read_bytes() + b"\0\0\0\x18ftypmp42" + bytes(range(256)))
    return folder / "in.jpg", folder / "out.jpg"


def infrared(folder: Path) -> Pair:
    colour = np.asarray(luma().convert("RGB"))
    planes = np.dstack([colour, colour[..., 0] // 2])
    tifffile.imwrite(folder / "in.tif", planes, photometric="rgb", extrasamples=["unspecified"])
    tifffile.imwrite(folder / "out.tif", planes, photometric="rgb", extrasamples=["unassalpha"])
    return folder / "in.tif", folder / "out.tif"


def transparency(folder: Path) -> Pair:
    luma().save(folder / "in.png", transparency=40)
    luma().save(folder / "out.png")
    return folder / "in.png", folder / "out.png"


IMAGES: dict[str, tuple[Callable[[Path], Pair], str]] = {
    "ICC profile": (icc, "its ICC profile is lost"),
    "Y coefficient": (coefficient, "luma"),
    "a film behind a JPEG": (appended, "behind the end of its JPEG image are lost"),
    "infrared taken for alpha": (infrared, "its extra samples became alpha"),
    "transparency": (transparency, "its alpha is lost"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_what_a_picture_has_lost_is_found(name: str, tmp_path: Path) -> None:
    make, difference = IMAGES[name]
    before, after = make(tmp_path)

    assert any(difference in text for text in verified_image(before, after).differences)
    assert verified_image(before, before).differences == []
