"""The default graph on real pictures and films."""

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

import bwpipe
from bwpipe import Frame, Unit
from bwpipe.core import plugins
from bwpipe.engine.run import RunResult
from bwpipe.image.open import open_image
from bwpipe.image.read import read_image
from bwpipe.nn.checkpoint import Checkpoint, save
from bwpipe.nn.network import networks
from tests.support.file_sizes import files_up_to
from tests.support.made_pictures import DESCRIPTION, DPI, make_pictures, profile

NETWORKS = Path(__file__).parents[1] / "support" / "networks"
MANY = 120
"""Pictures: three or more of each kind, in different orientations."""
FEW = {"colorize__model": "autoencoder", "colorize__every": 8}
"""For what does not depend on which colours a film gets."""


def coloured(path: Path, out: Path, **options: Any) -> RunResult:
    """Run the default graph; options are given as `stage__option`."""
    graph = Path(__file__).parents[2] / "pipeline.yaml"
    overrides = {"read.path": str(path), "write.path": str(out), "colorize.precision": "float32"}
    return bwpipe.run(graph, set=overrides | {key.replace("__", "."): value for key, value in options.items()})


def decoded(path: Path) -> Iterator[tuple[int | None, NDArray[Any]]]:
    """The timestamp and the luma plane of each frame of a film."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.pts, frame.to_ndarray()[: frame.height]


def sound(path: Path) -> list[tuple[int | None, bytes]]:
    """The timestamp and the bytes of each audio packet of a film."""
    with av.open(str(path)) as container:
        return [(packet.pts, bytes(packet)) for packet in container.demux(audio=0) if packet.size]


class Coloured(NamedTuple):
    """The samples, as the default graph colours them with several workers."""

    result: RunResult
    folder: Path


@pytest.fixture(scope="module")
def all_samples(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Coloured:
    out = tmp_path_factory.mktemp("coloured")
    several = {"colorize__batch": 4, "colorize__workers": 2, "read__workers": 3, "write__workers": 3, "queue": 2}
    return Coloured(coloured(samples, out, **several), out)


def test_the_samples_are_coloured(samples: Path, all_samples: Coloured) -> None:
    result, out = all_samples

    assert (result.done, result.exit_code) == (6, 0)
    assert sorted(path.name for path in out.iterdir() if path.is_file()) == sorted(path.name for path in samples.iterdir())
    for path in samples.glob("*.[jp][pn]g"):
        with Image.open(path) as grey, Image.open(out / path.name) as output:
            assert (output.size, output.mode) == (grey.size, "RGB")
            output.draft("YCbCr", output.size)  # for JPEG, Y as stored, not computed from RGB
            luma, *chroma = (np.asarray(band, np.int16) for band in output.convert("YCbCr").split())
            assert np.abs(np.stack(chroma) - 128).max() > 10
            assert np.abs(luma - np.asarray(grey, np.int16)).max() <= 2


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_a_film_keeps_its_luma_timestamps_and_sound(samples: Path, all_samples: Coloured, tmp_path: Path, codec: str) -> None:
    if codec == "ffv1":
        coloured(samples / "pan.mp4", tmp_path, write__codec=codec, write__container="same", read__workers=1, **FEW)
    (path,) = (tmp_path if codec == "ffv1" else all_samples.folder).glob("pan.*")

    with av.open(str(path)) as film:
        assert film.streams.video[0].codec_context.name == codec
    before, after = list(decoded(samples / "pan.mp4")), list(decoded(path))
    assert [pts for pts, _ in after] == [pts for pts, _ in before]
    assert sound(path) == sound(samples / "pan.mp4")
    for (_, grey), (_, luma) in zip(before, after, strict=True):
        if codec == "ffv1":
            assert_array_equal(luma, grey)
        else:
            assert np.abs(luma.astype(np.int16) - grey).mean() < 1.5


def test_a_trial_reads_only_some_frames_and_the_full_run_redoes_the_film(samples: Path, tmp_path: Path) -> None:
    coloured(samples / "pan.mp4", tmp_path, read__frames=3, **FEW)
    assert len(list(decoded(tmp_path / "pan.mp4"))) == 3

    assert coloured(samples / "pan.mp4", tmp_path, **FEW).done == 1
    assert len(list(decoded(tmp_path / "pan.mp4"))) == len(list(decoded(samples / "pan.mp4"))) == 20


def test_broken_files_are_named_and_the_others_are_processed(samples: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    inputs.mkdir()
    shutil.copy(samples / "rocket.jpg", inputs / "good.jpg")
    (inputs / "cut.jpg").write_bytes((samples / "rocket.jpg").read_bytes()[:5000])
    (inputs / "cut.mp4").write_bytes((samples / "pan.mp4").read_bytes()[:300])
    (inputs / "empty.png").touch()
    (inputs / "notes.txt").write_text("not a picture")
    (inputs / "page.jpg").write_text("<html>")

    result = coloured(inputs, tmp_path / "out")

    assert (result.done, result.exit_code) == (1, 1)
    assert sorted(path.name for path in result.failed) == ["cut.jpg", "cut.mp4", "empty.png", "page.jpg"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file()) == ["good.jpg"]
    assert all(error.isprintable() and "Error" not in error for error in result.failed.values()), result.failed


def test_an_output_larger_than_a_file_can_be_fails_alone(tmp_path: Path) -> None:
    for name, side in (("large", 400), ("small", 60)):
        noise = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(noise).save(tmp_path / "in" / f"{name}.png")

    with files_up_to(150_000):
        result = coloured(tmp_path / "in", tmp_path / "out", **FEW)

    assert list(result.failed.values()) == [
        f"its output is larger than files in {tmp_path / 'out'} can be; choose a folder on another file system"
    ]
    assert result.done == 1
    assert coloured(tmp_path / "in", tmp_path / "out", **FEW).done == 1


def test_the_result_does_not_depend_on_batch_workers_or_neighbours(
    samples: Path, all_samples: Coloured, tmp_path: Path
) -> None:
    coloured(samples / "rocket.jpg", tmp_path, colorize__batch=4, colorize__workers=1)

    assert (tmp_path / "rocket.jpg").read_bytes() == (all_samples.folder / "rocket.jpg").read_bytes()


def test_output_name_and_format_can_be_chosen(samples: Path, tmp_path: Path) -> None:
    coloured(samples / "chelsea.png", tmp_path, write__name="{stem}-coloured", write__format="jpeg")

    with Image.open(tmp_path / "chelsea-coloured.jpg") as output:
        assert output.format == "JPEG"


def test_a_missing_device_is_rejected_before_anything_is_written(samples: Path, tmp_path: Path) -> None:
    with pytest.raises(bwpipe.UsageError, match="there is no device 'cuda:7'"):
        coloured(samples, tmp_path / "out", colorize__device="cuda:7")

    assert not (tmp_path / "out").exists()


def test_a_missing_encoder_is_rejected_before_anything_is_written(samples: Path, tmp_path: Path) -> None:
    with pytest.raises(bwpipe.UsageError, match="there is no video encoder 'h26'; did you mean 'h264'"):
        coloured(samples, tmp_path / "out", write__codec="h26")

    assert not (tmp_path / "out").exists()


def picture(path: Path) -> Frame:
    return read_image(Unit(open_image(path, PurePosixPath(path.name), max_pixels=10**6)))


def test_a_folder_of_mixed_pictures_keeps_everything_but_colour(tmp_path: Path) -> None:
    album = make_pictures(tmp_path / "in", MANY)
    plugins.load([NETWORKS])
    weights = tmp_path / "tiny.safetensors"
    save(weights, networks["test-rgb"](networks["test-rgb"].Options()), Checkpoint(network="test-rgb", version="0"))

    result = coloured(tmp_path / "in", tmp_path / "out", plugins=[str(NETWORKS)], colorize__model=str(weights))

    assert (result.done, result.failed) == (MANY, {})
    for original in album:
        path = (tmp_path / "out" / original.path.relative_to(tmp_path / "in")).with_suffix(original.target)
        before, after = picture(original.path), picture(path)
        difference = np.abs(after.luma.astype(np.int32) - before.luma)
        if original.target.lower() in {".jpg", ".jpeg"}:
            assert difference.max() <= (2 if original.kind == "jpeg-cmyk" else 0), original
        else:
            assert difference.max() <= 1, original
        assert after.luma.dtype == before.luma.dtype, original
        assert after.unit.media.orientation == original.orientation, original
        assert (after.alpha is None) == (before.alpha is None), original
        if before.alpha is not None and after.alpha is not None:
            assert_array_equal(after.alpha, before.alpha)
        with Image.open(path) as image:
            assert image.getexif().get(270) == (DESCRIPTION if original.exif else None), original
            assert image.info.get("icc_profile", b"") == (profile() if original.icc else b""), original
            if original.dpi:
                np.testing.assert_allclose([float(value) for value in image.info["dpi"]], DPI, atol=0.1)
