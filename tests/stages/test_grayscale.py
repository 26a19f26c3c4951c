"""The `grayscale` stage."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from pydantic import ValidationError

from bwpipe import Frame, RunContext
from bwpipe.core.frame import Luma
from bwpipe.pixels.ycbcr import rgb_to_ycbcr
from bwpipe.testing import make_frames, run_stage

LIMITED = (16, 235)


def made(frame: Frame, **options: Any) -> Frame:
    """Apply the stage to a frame."""
    result: Frame = run_stage("grayscale", [frame], **options)[0]
    return result


def with_luma(frame: Frame, luma: NDArray[np.floating]) -> Frame:
    codes: Luma = np.rint(luma).astype(np.uint8) if frame.luma.dtype == np.uint8 else np.rint(luma).astype(np.uint16)
    codes.flags.writeable = False
    return replace(frame, luma=codes)


def picture_of(rgb: NDArray[np.uint8], name: str = "made.png") -> Frame:
    """A frame as `read` makes it from a colour picture."""
    luma, chroma = rgb_to_ycbcr(rgb)
    luma.flags.writeable = chroma.flags.writeable = False
    return replace(make_frames(1, height=len(rgb), width=len(rgb[0]), name=name)[0], luma=luma, chroma=chroma)


def in_colour(name: str = "made.png") -> Frame:
    planes = [make_frames(1, height=96, width=128, seed=seed)[0].luma.astype(np.uint8) for seed in range(3)]
    return picture_of(np.stack(planes, axis=-1), name)


def in_sepia() -> Frame:
    grey = make_frames(1, height=96, width=128)[0].luma[..., None]
    return picture_of((grey * np.array([1, 0.86, 0.66])).astype(np.uint8))


@pytest.mark.parametrize("film", [False, True])
@pytest.mark.parametrize(("depth", "levels"), [(8, (0, 255)), (8, LIMITED), (10, (64, 940)), (16, (0, 65535))])
def test_the_luma_stays_the_same_array(depth: int, levels: tuple[int, int], film: bool) -> None:
    frame = make_frames(1, depth=depth, levels=levels, film=film)[0]

    assert made(frame).luma is frame.luma


@pytest.mark.parametrize(
    ("size", "guide"),
    [
        ((720, 1280), (512, 910)),
        ((1280, 720), (910, 512)),
        ((512, 700), (512, 700)),
        ((300, 2000), (300, 2000)),
        ((1, 1), (1, 1)),
    ],
)
def test_the_guide_has_a_short_side_of_at_most_512(size: tuple[int, int], guide: tuple[int, int]) -> None:
    frame = made(make_frames(1, height=size[0], width=size[1])[0])

    assert frame.guide is not None
    assert frame.guide.shape == guide
    assert frame.guide.dtype == np.uint8
    assert not frame.guide.flags.writeable


@pytest.mark.parametrize("size", [(720, 1280), (1080, 1920), (1536, 2048)])
def test_the_guide_of_a_film_is_nearly_that_of_a_picture(size: tuple[int, int]) -> None:
    frames = [make_frames(1, height=size[0], width=size[1], film=film)[0] for film in (False, True)]

    picture, film = (made(frame, levels="off", denoise="off").guide for frame in frames)

    assert picture is not None
    assert film is not None
    assert_array_equal(frames[0].luma, frames[1].luma)
    assert 0 < np.abs(film.astype(np.float32) - picture).mean() < 1


@pytest.mark.parametrize(("depth", "levels"), [(8, LIMITED), (10, (64, 940)), (16, (0, 65535))])
def test_the_guide_is_full_range_whatever_the_levels(depth: int, levels: tuple[int, int]) -> None:
    frame = make_frames(1, depth=depth, levels=levels)[0]

    guide = made(frame, levels="off").guide

    assert guide is not None
    assert_allclose(guide, 255 * (frame.luma.astype(float) - levels[0]) / (levels[1] - levels[0]), atol=0.51)


def test_luma_beyond_the_levels_becomes_black_and_white() -> None:
    frame = make_frames(1, levels=LIMITED, height=2, width=2)[0]

    guide = made(with_luma(frame, np.array([[3.0, 16], [235, 250]])), levels="off").guide

    assert_array_equal(guide, [[0, 0], [255, 255]])


def test_a_faded_picture_is_stretched_in_the_guide_only() -> None:
    frame = make_frames(1, height=96, width=128)[0]
    faded = with_luma(frame, 60 + 0.55 * frame.luma)

    after = made(faded)

    assert after.guide is not None
    assert faded.luma.max() - faded.luma.min() < 150
    assert after.guide.max() - after.guide.min() > 250
    assert after.luma is faded.luma


def test_levels_off_leaves_a_faded_picture_faded() -> None:
    frame = make_frames(1, height=96, width=128)[0]
    faded = with_luma(frame, 60 + 0.55 * frame.luma)

    assert_array_equal(made(faded, levels="off").guide, faded.luma)


def test_all_frames_of_a_film_are_stretched_alike() -> None:
    frames = make_frames(3, film=True, levels=LIMITED)
    media = replace(frames[0].unit.media, tones=(60, 190))
    unit = replace(frames[0].unit, media=media)
    grey = np.full((48, 64), 100.0)
    dark, whole, light = (
        with_luma(replace(frame, unit=unit), grey + 30 * np.linspace(-k, 2 - k, 64)) for k, frame in enumerate(frames)
    )
    seen: dict[int, int] = {}

    for frame in run_stage("grayscale", [dark, whole, light]):
        for code, shown in zip(frame.luma.ravel(), frame.guide.ravel(), strict=True):
            seen.setdefault(code, shown)
            assert seen[code] == shown


def test_grain_is_reduced_in_the_guide_only() -> None:
    frame = make_frames(1, height=256, width=256, levels=(40, 200))[0]
    grain = np.random.default_rng(0).normal(0, 8, frame.luma.shape)
    grainy = with_luma(frame, frame.luma + grain)

    light, off = (made(grainy, levels="off", denoise=denoise) for denoise in ("light", "off"))

    assert light.guide is not None
    assert off.guide is not None
    assert light.luma is off.luma is grainy.luma
    black, white = frame.unit.media.levels
    target = 255 * (frame.luma.astype(float) - black) / (white - black)
    assert (light.guide - target).std() < 0.6 * (off.guide - target).std()


@pytest.mark.parametrize(("depth", "levels"), [(8, LIMITED), (10, (64, 940)), (16, (0, 65535))])
def test_restore_stretches_and_denoises_the_luma_at_its_own_depth(depth: int, levels: tuple[int, int]) -> None:
    span = levels[1] - levels[0]
    frame = make_frames(1, height=600, width=800, depth=depth, levels=levels)[0]
    plain = levels[0] + 0.25 * span + 0.55 * (frame.luma.astype(float) - levels[0])
    grain = np.random.default_rng(0).normal(0, 0.02 * span, plain.shape)

    after = made(with_luma(frame, plain + grain), restore=True)

    assert after.guide is not None
    assert after.luma.dtype == frame.luma.dtype
    assert after.luma.shape == frame.luma.shape
    assert not after.luma.flags.writeable
    assert after.guide.shape == (512, 683)
    assert (after.luma.min(), after.luma.max()) == levels
    assert np.median(after.luma) == pytest.approx(np.median(frame.luma), abs=0.05 * span)
    rough = np.diff(after.luma.astype(float), axis=1).std() / span
    assert rough < 0.8 * np.diff(grain, axis=1).std() / span


def test_restore_with_both_off_changes_nothing() -> None:
    frame = make_frames(1, levels=LIMITED)[0]

    assert made(frame, restore=True, levels="off", denoise="off").luma is frame.luma


def test_a_tint_is_dropped_with_one_warning() -> None:
    messages: list[str] = []
    run = RunContext(say=messages.append)

    frames = run_stage("grayscale", [in_sepia(), in_sepia()], run=run, colour="keep")

    assert all(frame.chroma is None for frame in frames)
    assert messages == ["warning: made.png: its tint is dropped"]
    assert list(run.remarks.values()) == [2]


def test_a_grey_picture_stored_in_colour_is_grey_without_a_warning() -> None:
    run = RunContext()
    frame = in_sepia()
    slight = replace(frame, chroma=(np.asarray(frame.chroma) / 50).astype(np.float16))

    after = run_stage("grayscale", [slight], run=run, colour="keep")[0]

    assert after.chroma is None
    assert not run.remarks


def test_a_picture_in_colour_is_recoloured_on_request_with_a_warning() -> None:
    run = RunContext()

    after = run_stage("grayscale", [in_colour(), in_colour("made-1.png")], run=run, colour="recolour")

    assert all(frame.chroma is None for frame in after)
    assert run.remarks == {"already in colour; its colours are replaced": 2}


def test_a_picture_in_colour_stays_as_it_is_by_default() -> None:
    run = RunContext()
    frame = in_colour()

    after = run_stage("grayscale", [frame], run=run, weights="red")[0]

    assert after.chroma is frame.chroma
    assert after.luma is frame.luma
    assert run.remarks == {"already in colour; its colours are kept (`colour: recolour` would replace them)": 1}


@pytest.mark.parametrize(
    ("weights", "share"),
    [
        ("bt601", (0.299, 0.587, 0.114)),
        ("bt709", (0.2126, 0.7152, 0.0722)),
        ("bt2020", (0.2627, 0.678, 0.0593)),
        ("mean", (1 / 3, 1 / 3, 1 / 3)),
        ("red", (1, 0, 0)),
        ("green", (0, 1, 0)),
        ("blue", (0, 0, 1)),
    ],
)
def test_weights_make_the_luma_of_red_green_and_blue(weights: str, share: tuple[float, float, float]) -> None:
    rgb = np.stack([make_frames(1, seed=seed)[0].luma.astype(np.uint8) for seed in range(3)], axis=-1)

    after = made(picture_of(rgb), colour="recolour", weights=weights)

    assert_allclose(after.luma, rgb @ np.array(share), atol=1.6)
    assert not after.luma.flags.writeable


def test_weights_leave_a_grey_picture_as_it_is() -> None:
    frame = make_frames(1)[0]

    assert made(frame, weights="blue").luma is frame.luma


@pytest.mark.parametrize(
    "options",
    [{"weights": "red "}, {"colour": "drop"}, {"levels": 3}, {"denoise": "strong"}, {"restore": "perhaps"}, {"size": 9}],
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        run_stage("grayscale", [], **options)
