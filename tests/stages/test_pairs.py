"""The `pairs` stage: pairs of grey and colour from colour photographs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from bwpipe import Gather, MediaError, RunContext, UnitMap, UsageError, stage
from bwpipe.core import plugins
from bwpipe.core.stage import stages
from bwpipe.data.dataset import Pair
from bwpipe.engine.run import RunResult, run
from bwpipe.pixels.ycbcr import ycbcr_to_rgb
from bwpipe.testing import make_frames, run_stage

plugins.load()


@stage("test-count-pairs")
class Count(Gather):
    """Counts pairs."""

    def gather(self, pairs: Iterator[Pair]) -> int:
        return sum(1 for _ in pairs)


Pixels = NDArray[np.uint8]


def photo(seed: int = 0, height: int = 60, width: int = 80) -> Pixels:
    """A smooth image (H, W, 3) with many colours."""
    coarse = np.random.default_rng(seed).random((4, 5, 3))
    return np.rint(255 * np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)).astype(np.uint8)


def luma_of(rgb: Pixels) -> Pixels:
    return np.rint(rgb @ [0.299, 0.587, 0.114]).astype(np.uint8)


def tinted(luma: Pixels, *stops: tuple[int, int, int]) -> Pixels:
    """An image whose black, mid grey and white have these colours."""
    return np.stack([np.interp(luma, (0, 128, 255), channel) for channel in zip(*stops, strict=True)], -1).astype(np.uint8)


def shrunk(rgb: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


SEPIA = (30, 18, 8), (153, 120, 84), (250, 237, 204)
DUOTONE = (0, 10, 40), (40, 90, 170), (235, 240, 255)


def save(path: Path, pixels: Pixels, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def pairs(folder: Path, *, run_context: RunContext | None = None, size: int = 24, **options: Any) -> dict[str, Pair]:
    """The pairs of the pictures in a folder, by name."""
    made = run_stage("pairs", run_stage("read", path=str(folder)), run=run_context, size=size, **options)
    return {str(pair.unit.name): pair for pair in made}


def run_graph(folder: Path, **options: Any) -> RunResult:
    """The same in a graph."""
    return run({"stages": [{"use": "read", "path": str(folder)}, {"use": "pairs", **options}, {"use": "test-count-pairs"}]})


def test_a_picture_is_squashed_into_a_pair_of_one_luma(tmp_path: Path) -> None:
    rgb = photo()
    save(tmp_path / "a.png", rgb)

    pair = pairs(tmp_path, size=20)["a.png"]

    assert pair.grey.shape == (20, 20)
    assert pair.colour.shape == (20, 20, 3)
    assert pair.grey.dtype == pair.colour.dtype == np.uint8
    assert_array_equal(luma_of(pair.colour), pair.grey)
    assert_allclose(pair.colour, shrunk(rgb, 20, 20), atol=3)


@pytest.mark.parametrize(("height", "width"), [(60, 80), (80, 60), (61, 90)])
def test_the_central_square_is_cut_out_on_request(tmp_path: Path, height: int, width: int) -> None:
    rgb = photo(height=height, width=width)
    save(tmp_path / "a.png", rgb)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2

    pair = pairs(tmp_path, size=side, crop=True)["a.png"]

    assert_allclose(pair.colour, rgb[top : top + side, left : left + side], atol=1)


def test_a_picture_smaller_than_a_pair_is_enlarged(tmp_path: Path) -> None:
    save(tmp_path / "a.png", photo(height=15, width=20))

    assert pairs(tmp_path, size=40)["a.png"].colour.shape == (40, 40, 3)


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_a_pair_is_upright(tmp_path: Path, orientation: int, crop: bool) -> None:
    stored = Image.fromarray(photo())
    tags = Image.Exif()
    tags[274] = orientation
    turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}[orientation]  # Pillow's name of the transposition that makes it upright
    stored.save(tmp_path / "turned.png", exif=tags)
    stored.transpose(Image.Transpose(turned)).save(tmp_path / "upright.png")

    made = pairs(tmp_path, crop=crop, duplicates=True)

    assert_allclose(made["turned.png"].grey, made["upright.png"].grey, atol=1)
    assert_allclose(made["turned.png"].colour, made["upright.png"].colour, atol=2)


def test_limited_levels_and_sixteen_bits_become_full_range(tmp_path: Path) -> None:
    chroma = np.full((2, 4, 4), 0.1, np.float16)
    chroma[0, 0] = -0.1
    frames = [replace(make_frames(1, name="limited.png", levels=(16, 235))[0], chroma=chroma)]
    frames.append(replace(make_frames(1, name="deep.png", depth=16)[0], chroma=chroma))

    limited, deep = run_stage("pairs", frames, size=24, duplicates=True)

    assert_allclose(limited.grey, deep.grey, atol=2)
    assert_allclose(limited.colour, deep.colour, atol=4)


def test_frames_are_not_modified() -> None:
    frame = make_frames(1)[0]
    frame = replace(frame, chroma=np.random.default_rng(0).uniform(-0.2, 0.2, (2, *frame.luma.shape)).astype(np.float16))
    before = frame.luma.copy(), (frame.chroma.copy() if frame.chroma is not None else None)

    run_stage("pairs", [frame], size=20)

    assert_array_equal(frame.luma, before[0])
    assert_array_equal(frame.chroma, before[1])


def with_little_colour(seed: int) -> Pixels:
    luma = luma_of(photo(seed))
    chroma = np.random.default_rng(seed).uniform(-0.005, 0.005, (2, 4, 5)).astype(np.float32)
    planes = np.stack([cv2.resize(plane, luma.shape[::-1]) for plane in chroma])
    return np.asarray(ycbcr_to_rgb(luma, planes), np.uint8)


def test_what_is_no_use_for_learning_colours_is_left_out_and_counted(tmp_path: Path) -> None:
    save(tmp_path / "colour.png", photo(0))
    save(tmp_path / "grey.png", luma_of(photo(1)))
    save(tmp_path / "grey.jpg", luma_of(photo(2)))
    save(tmp_path / "three equal channels.png", np.repeat(luma_of(photo(3))[..., None], 3, -1))
    save(tmp_path / "three equal channels.jpg", np.repeat(luma_of(photo(4))[..., None], 3, -1))
    save(tmp_path / "faint.png", with_little_colour(5))
    save(tmp_path / "sepia.png", tinted(luma_of(photo(6)), *SEPIA))
    save(tmp_path / "sepia.jpg", tinted(luma_of(photo(7, 150, 200)), *SEPIA), quality=75)
    save(tmp_path / "duotone.jpg", tinted(luma_of(photo(8, 150, 200)), *DUOTONE), quality=90)
    run_context = RunContext()

    made = pairs(tmp_path, run_context=run_context)

    assert list(made) == ["colour.png"]
    assert run_context.left_out == {"in black and white": 4, "next to no colour": 1, "of one hue": 3}
    assert {media.name.name for media, why in run_context.dropped.items() if why == "of one hue"} == {
        "sepia.png",
        "sepia.jpg",
        "duotone.jpg",
    }


def test_pictures_of_one_hue_are_kept_on_request(tmp_path: Path) -> None:
    save(tmp_path / "sepia.png", tinted(luma_of(photo()), *SEPIA))

    assert list(pairs(tmp_path, toned=True)) == ["sepia.png"]


def test_the_minimum_amount_of_colour_can_be_set(tmp_path: Path) -> None:
    save(tmp_path / "faint.png", with_little_colour(5))

    assert list(pairs(tmp_path, least=0.001)) == ["faint.png"]
    assert list(pairs(tmp_path, least=0.4)) == []


def test_a_duplicate_is_left_out_whatever_its_size_and_encoding(tmp_path: Path) -> None:
    rgb = photo(0, 150, 200)
    save(tmp_path / "a.png", rgb)
    save(tmp_path / "again/a.jpg", rgb, quality=60)
    save(tmp_path / "again/b.jpg", shrunk(rgb, 100, 75), quality=80)
    save(tmp_path / "again/c.png", rgb)
    save(tmp_path / "other.png", photo(1, 150, 200))
    run_context = RunContext()

    assert list(pairs(tmp_path, run_context=run_context)) == ["a.png", "other.png"]
    assert run_context.left_out == {"duplicates": 3}
    assert len(pairs(tmp_path, duplicates=True)) == 5


def test_each_run_starts_with_an_empty_index(tmp_path: Path) -> None:
    save(tmp_path / "a.png", photo())
    frames = run_stage("read", path=str(tmp_path))
    made = stages["pairs"]()
    assert isinstance(made, UnitMap)

    for _ in range(2):
        made.setup(RunContext())
        assert len(list(made.apply(iter(frames)))) == 1


def test_a_film_is_left_out_once(tmp_path: Path, samples: Path) -> None:
    run_context = RunContext()

    made = run_stage("pairs", run_stage("read", path=str(samples / "pan.mp4"), frames=5), run=run_context)

    assert made == []
    assert run_context.left_out == {"films": 1}


def test_films_are_read_only_if_another_branch_of_the_graph_may_need_them() -> None:
    read, size, pairs, dataset, other = (
        stages[name].model_construct() for name in ("read", "grayscale", "pairs", "dataset", "grayscale")
    )
    chain, fork = [size, pairs, dataset], [size, pairs, dataset, other]

    for rest, unwanted in ((chain, {"film": "films"}), (fork, {})):
        after = {id(read): rest, id(size): rest[1:], id(pairs): [dataset]}
        run_context = RunContext(downstream=lambda stage, after=after: after.get(id(stage), []))  # type: ignore[misc]
        pairs.setup(run_context)
        assert run_context.skipped_kinds(read) == unwanted


class Twins:
    """The folders `color` and `gray`, with pictures that differ in more than colour."""

    def __init__(self, root: Path) -> None:
        self.color, self.gray = root / "color", root / "gray"
        self.gray.mkdir(parents=True)

    def colour(self, name: str, seed: int = 0, **shape: int) -> Path:
        return save(self.color / name, photo(seed, **shape))

    def grey(self, name: str, seed: int = 0, **shape: int) -> Path:
        return save(self.gray / name, 255 - luma_of(photo(seed, **shape)))

    def pairs(self, run_context: RunContext | None = None, **options: Any) -> dict[str, Pair]:
        return pairs(self.color, run_context=run_context, gray=str(self.gray), **options)

    def run(self) -> RunResult:
        return run_graph(self.color, gray=str(self.gray))


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    return Twins(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "a.jpg"])
def test_the_grey_of_a_pair_is_that_of_its_partner(twins: Twins, name: str) -> None:
    twins.colour("sub/a.png")
    twins.grey(f"sub/{name}")

    pair = twins.pairs()["sub/a.png"]
    own = pairs(twins.color)["sub/a.png"]

    assert_allclose(pair.grey, 255 - own.grey.astype(int), atol=4)
    assert_array_equal(pair.colour, own.colour)


def test_a_partner_is_cropped_and_rotated_like_its_colour_picture(twins: Twins) -> None:
    tags = Image.Exif()
    tags[274] = 6
    twins.colour("a.png")
    (twins.gray / "a.tif").parent.mkdir(exist_ok=True)
    Image.fromarray(luma_of(photo())).transpose(Image.Transpose.ROTATE_90).save(twins.gray / "a.tif", exif=tags)

    pair = twins.pairs(crop=True)["a.png"]

    assert_allclose(pair.grey, luma_of(pair.colour), atol=2)


def test_a_partner_of_another_size_is_resized_to_that_of_the_pair(twins: Twins) -> None:
    twins.colour("a.png", height=61, width=83)
    twins.grey("a.png", height=183, width=250)

    assert list(twins.pairs()) == ["a.png"]


def test_pictures_without_a_partner_are_named_in_one_line(twins: Twins) -> None:
    lines: list[str] = []
    run_context = RunContext(say=lines.append)
    for i in range(6):
        twins.colour(f"{i}.png", i)
    twins.grey("2.png", 2)
    twins.grey("7.png")
    twins.grey("old/8.png")
    (twins.gray / "licence.txt").write_text("CC0")

    assert list(twins.pairs(run_context)) == ["2.png"]
    assert run_context.left_out == {"without a grey partner": 5}
    assert lines == [
        f"warning: 5 images without a grey partner in {twins.gray}: 0.png, 1.png, 3.png, 4.png, 5.png; "
        f"2 images in {twins.gray} without a colour partner: 7.png, old/8.png"
    ]


def test_there_is_no_warning_if_all_have_partners_even_those_left_out_or_failed(twins: Twins) -> None:
    twins.colour("a.png")
    save(twins.color / "grey.png", luma_of(photo(1)))
    (twins.color / "empty.png").write_bytes(b"")
    (twins.color / "cut.png").write_bytes(twins.colour("cut.png", 2).read_bytes()[:-200])
    for name in ("a.png", "grey.png", "empty.png", "cut.png"):
        twins.grey(name)

    outcome = twins.run()

    assert outcome.remarks == {}
    assert {path.name for path in outcome.failed} == {"empty.png", "cut.png"}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (cut, "its grey partner {} can't be read"),
        (lambda path: path.write_bytes(b""), "its grey partner {} is not a picture in a supported format"),
        (
            lambda path: save(path, luma_of(photo(height=60, width=60))),
            "its grey partner {} has a different shape: 60x60, not 80x60",
        ),
    ],
)
def test_an_unusable_partner_fails_the_picture_by_name(twins: Twins, spoil: Callable[[Path], object], complaint: str) -> None:
    twins.colour("good.png", 1)
    twins.grey("good.png", 1)
    path = twins.colour("bad.png")
    spoil(twins.grey("bad.png"))

    outcome = twins.run()

    assert outcome.exit_code == 1
    assert list(outcome.failed) == [path]
    assert outcome.failed[path].startswith(complaint.format(twins.gray / "bad.png"))


def test_a_partner_larger_than_max_pixels_is_refused(twins: Twins) -> None:
    twins.colour("a.png")
    twins.grey("a.png")

    with pytest.raises(MediaError, match=r"its grey partner .*a.png has 80x60 = 4800 pixels, more than `max_pixels` allows"):
        twins.pairs(max_pixels=4000)


def test_of_two_partners_the_one_of_the_same_name_is_used_or_else_none(twins: Twins) -> None:
    twins.colour("a.png")
    twins.colour("b.png", 1)
    twins.grey("a.png")
    save(twins.gray / "a.jpg", luma_of(photo(9)))
    for name in ("b.jpg", "b.tif"):
        save(twins.gray / name, luma_of(photo(1)))
    (twins.gray / "a.txt").write_text("A picture.")

    outcome = twins.run()

    ((path, why),) = outcome.failed.items()
    assert path.name == "b.png"
    assert why == f"has several grey partners, {twins.gray / 'b.jpg'} and {twins.gray / 'b.tif'}; keep one of them"


def test_a_text_file_beside_a_partner_is_not_a_partner(twins: Twins) -> None:
    twins.colour("a.png")
    twins.grey("a.bmp")
    (twins.gray / "a.txt").write_text("A picture.")

    assert list(twins.pairs()) == ["a.png"]


def test_a_partner_that_is_a_link_out_of_its_folder_is_not_read(twins: Twins, tmp_path: Path) -> None:
    twins.colour("a.png")
    twins.grey("b.png")
    (twins.gray / "a.png").symlink_to(save(tmp_path / "elsewhere.png", luma_of(photo())))

    with pytest.raises(MediaError, match="is a link out of its folder"):
        twins.pairs()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda gray: gray.rmdir(), "there is no folder .*gray"),
        (lambda gray: None, "gray contains no images"),
        (lambda gray: (gray / "a.txt").write_text("nothing"), "gray contains no images"),
    ],
)
def test_a_grey_folder_without_pictures_is_refused_before_anything_starts(
    twins: Twins, make: Callable[[Path], object], complaint: str
) -> None:
    twins.colour("a.png")
    make(twins.gray)

    with pytest.raises(UsageError, match=complaint):
        twins.run()


def test_the_folder_being_read_cannot_be_the_grey_folder(twins: Twins) -> None:
    twins.colour("a.png")

    with pytest.raises(UsageError, match="is the folder being read"):
        run_graph(twins.color, gray=str(twins.color))


def test_the_recipe_depends_on_the_grey_pictures_not_on_their_path(twins: Twins) -> None:
    def recipe() -> dict[str, Any]:
        return stages["pairs"].model_validate({"gray": str(twins.gray)}).recipe()

    twins.grey("a.png")
    first = recipe()
    twins.gray = twins.gray.rename(twins.gray.with_name("moved"))
    moved = recipe()
    twins.grey("b.png")

    assert moved == first
    assert recipe() != first
    assert stages["pairs"]().recipe()["gray"] is None


def test_a_graph_with_pairs_counts_what_was_left_out(tmp_path: Path) -> None:
    save(tmp_path / "a.png", photo())
    save(tmp_path / "b.png", luma_of(photo(1)))

    outcome = run_graph(tmp_path)

    assert (outcome.exit_code, outcome.left_out) == (0, {"in black and white": 1})
