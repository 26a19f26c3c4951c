"""The Y of a JPEG file is the same before and after, coefficient by coefficient."""

import base64
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

import bwpipe
from bwpipe.image.formats import jpeg_scans
from bwpipe.image.write import write_image
from tests.image.test_write import make_chroma, read, saved, written
from tests.support.made_pictures import exif

ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5PTgyPC4zNDL/"
    "yQALCAAYACABAREA/8wABgAQEAX/2gAIAQEAAD8A/wB20tTM/fHqyHDi2IQj4HrUJ0dXbpPszf0uM5h86zMRwjgBplRC/ca9kDelrd6ij7txYt1dHRvUmePY"
    "LhHeMyfc9X1SYvwKAVdX7pWH4B5Zo/3u1btMD1c8yEKGnbAfbblMQrm5YG8wijUKO06ReBCye8roU/bmYJ2oyrWskaDQiZHRJpd9k1UZk1vdTTUmu0MQV2+h"
    "TaLVRxaXq69jEwJHPvZ0rHUFin6DYZHOE9KRzTjknJYl/M9dB4BeHVcM+kc9LEJHjD7hloV6Y0aA/9k="
)
"""A texture of 32x24 pixels, coded arithmetically by libjpeg-turbo; nothing that Python installs writes such files."""

_FACTORS = {name: getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{name}") for name in ("411", "420", "422", "440", "444")}


def photograph(height: int = 93, width: int = 141, seed: int = 1) -> NDArray[np.uint8]:
    """A colour image (height, width, 3) with grain, flat areas, and samples clipped to black and white."""
    rng = np.random.default_rng(seed)
    smooth = cv2.resize(rng.uniform(-60, 320, (5, 7, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 9, (height, width, 1))
    grain[: height // 3] = 0
    samples: NDArray[np.uint8] = np.clip(smooth + grain, 0, 255).astype(np.uint8)
    return samples


def by_opencv(*, factors: str, **options: int) -> bytes:
    names = {"progressive": cv2.IMWRITE_JPEG_PROGRESSIVE, "restart": cv2.IMWRITE_JPEG_RST_INTERVAL}
    chosen = [value for name, option in options.items() for value in (names[name], option)]
    settings = [cv2.IMWRITE_JPEG_QUALITY, 88, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _FACTORS[factors], *chosen]
    return cv2.imencode(".jpg", photograph()[..., ::-1], settings)[1].tobytes()


def with_few_luma_samples() -> bytes:
    """A file whose Y has half the rows and columns of its chroma, as no encoder at hand writes it."""
    samples = photograph(96, 128)
    planes = [
        jpeg_scans.take_apart(saved(np.ascontiguousarray(plane), "JPEG", quality=90))
        for plane in (samples[::2, ::2, 0], samples[..., 1], samples[..., 2])
    ]
    data = jpeg_scans.together(planes[1].head, planes, [(1, 1), (2, 2), (2, 2)])
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", 96, 128) + data[at + 4 :]


def y_of(path: Path) -> NDArray[np.uint8]:
    """The Y (H, W) of a grey or colour JPEG file."""
    with Image.open(path) as image:
        image.draft("L", None)
        return np.asarray(image)


KINDS: dict[str, Callable[[], bytes]] = {
    "grey": lambda: saved(photograph()[..., 0], "JPEG", quality=70),
    "grey, optimised tables": lambda: saved(photograph()[..., 0], "JPEG", quality=93, optimize=True),
    "grey, progressive": lambda: saved(photograph()[..., 0], "JPEG", quality=80, progressive=True),
    "grey, restart markers": lambda: saved(photograph()[..., 0], "JPEG", restart_marker_blocks=5),
    "grey, best quality": lambda: saved(photograph()[..., 0], "JPEG", quality=100),
    **{f"4:{f[1]}:{f[2]}": partial(by_opencv, factors=f) for f in _FACTORS},
    **{f"4:{f[1]}:{f[2]}, progressive": partial(by_opencv, factors=f, progressive=1) for f in _FACTORS},
    **{f"4:{f[1]}:{f[2]}, restart markers": partial(by_opencv, factors=f, restart=3) for f in _FACTORS},
    "4:2:0, optimised tables": lambda: saved(photograph(), "JPEG", quality=85, subsampling=2, optimize=True),
    "4:2:0, best quality": lambda: saved(photograph(), "JPEG", quality=100, subsampling=2),
    "4:2:0, poor quality": lambda: saved(photograph(), "JPEG", quality=8, subsampling=2),
    "4:2:0, many lanes": lambda: saved(photograph(401, 603), "JPEG", quality=98, subsampling=2),
    "4:2:2, mostly blank": lambda: saved(
        np.pad(photograph(), ((400, 50), (500, 9), (0, 0)), mode="edge"), "JPEG", subsampling=1
    ),
    "4:4:4, the same tables for all": lambda: saved(photograph(301, 403), "JPEG", qtables=[[9] * 64], subsampling=0),
    "a single column": lambda: saved(photograph(70, 1), "JPEG", subsampling=2),
    "a single row": lambda: saved(photograph(1, 70), "JPEG", subsampling=2, progressive=True),
    "fewer samples of Y than of chroma": with_few_luma_samples,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "scan.jpg"


@pytest.mark.parametrize("kind", KINDS)
def test_the_luma_of_a_jpeg_is_kept_exactly(file: Path, kind: str) -> None:
    file.write_bytes(KINDS[kind]())

    path, warnings = written(file)

    assert_array_equal(y_of(path), y_of(file))
    assert warnings == []
    with Image.open(file) as before, Image.open(path) as after:
        assert after.mode == "RGB"
        assert after.quantization[0] == before.quantization[0]  # type: ignore[attr-defined]
        assert ("progressive" in after.info) == ("progressive" in before.info)


@pytest.mark.parametrize("kind", ["grey", "grey, progressive", "4:2:0", "4:2:0, progressive", "4:4:0, restart markers"])
def test_other_readers_see_the_same_colours(file: Path, kind: str) -> None:
    file.write_bytes(KINDS[kind]())
    path, _ = written(file)

    with Image.open(path) as image:
        expected = np.asarray(image).astype(int)
    opencv = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert opencv is not None
    with av.open(str(path)) as container:
        ffmpeg = next(container.decode(video=0)).to_ndarray(format="rgb24")

    assert_array_equal(opencv[..., ::-1], expected)
    assert np.abs(ffmpeg.astype(int) - expected).max() <= 4  # its inverse DCT rounds differently


def test_a_picture_that_is_coloured_twice_still_has_its_first_luma(file: Path) -> None:
    file.write_bytes(KINDS["4:2:0"]())

    once, _ = written(file)
    twice, _ = written(once)

    assert_array_equal(y_of(twice), y_of(file))
    assert abs(twice.stat().st_size - once.stat().st_size) < 100


def test_many_files_written_in_four_threads_equal_those_written_one_by_one(tmp_path: Path) -> None:
    files = []
    for number in range(60):
        files.append(tmp_path / f"{number}.jpg")
        kind = list(KINDS.values())[number % 3 * 5]
        files[-1].write_bytes(kind() if number % 2 else saved(photograph(33, 50, number), "JPEG", subsampling=2))
    alone = [written(path)[0].read_bytes() for path in files]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda path: written(path)[0].read_bytes(), files))

    assert together == alone


def test_a_run_keeps_the_luma_of_colour_photographs_and_their_orientation(tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    (scans / "a.jpg").write_bytes(saved(photograph(), "JPEG", exif=exif(6), subsampling=2))
    (scans / "b.jpg").write_bytes(KINDS["4:2:2, progressive"]())
    graph = tmp_path / "graph.yaml"
    graph.write_text(
        f"stages:\n  - {{use: read, path: {str(scans)!r}}}\n  - {{use: grayscale, colour: keep}}\n"
        f"  - {{use: write, path: {str(out)!r}, verify: true}}\n"
    )

    result = bwpipe.run(graph)

    assert (result.done, result.exit_code) == (2, 0)
    for name in ("a.jpg", "b.jpg"):
        assert_array_equal(y_of(out / name), y_of(scans / name))
    with Image.open(out / "a.jpg") as image:
        assert image.getexif()[274] == 6


def test_a_luma_that_a_stage_has_changed_is_written_as_it_is(file: Path) -> None:
    file.write_bytes(KINDS["grey"]())
    frame = read(file)
    inverted = replace(frame, luma=255 - frame.luma)
    path = file.with_name("made.jpg")
    warnings: list[str] = []

    write_image(path, inverted, make_chroma(inverted.luma), target="jpeg", warn=warnings.append)

    assert np.abs(y_of(path).astype(int) - inverted.luma).max() <= 2
    assert warnings == []


@pytest.mark.parametrize("change", ["a byte of a scan", "a table"])
def test_a_damaged_file_is_written_or_refused_but_never_crashes(file: Path, change: str) -> None:
    data = bytearray(KINDS["4:2:0"]())
    at = data.index(b"\xff\xda") if change == "a byte of a scan" else data.index(b"\xff\xc4")
    outcomes = []
    for place in range(at + 4, at + 400, 7):
        damaged = bytearray(data)
        damaged[place] ^= 0x55
        file.write_bytes(damaged)
        try:
            path, warnings = written(file)
        except bwpipe.MediaError:
            continue
        difference = np.abs(y_of(path).astype(int) - y_of(file)).max()
        outcomes.append(difference)
        assert difference == 0 or warnings, place
    assert outcomes


def test_a_file_that_is_coded_arithmetically_is_read_and_its_luma_stays_close(tmp_path: Path) -> None:
    path = tmp_path / "arithmetic.jpg"
    path.write_bytes(ARITHMETIC)

    output, warnings = written(path)

    luma = read(path).luma.astype(int)
    assert luma.std() > 30
    assert np.abs(y_of(output).astype(int) - luma).max() <= 2
    assert any("coded arithmetically" in text for text in warnings)


@pytest.mark.parametrize("kept", [0.5, 0.8])
def test_a_file_that_is_coded_arithmetically_and_cut_short_is_refused(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(ARITHMETIC[: int(len(ARITHMETIC) * kept)] + b"\xff\xd9")

    with pytest.raises(bwpipe.MediaError, match="cut short"):
        read(path)
