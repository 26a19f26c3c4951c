"""Films written as numbered frames: every format, what is kept, and what a killed run leaves."""

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

import bwpipe
from bwpipe.core.provenance import split_note
from bwpipe.pixels.ycbcr import WEIGHTS
from bwpipe.sequence import dpx, exr
from bwpipe.sequence.frames import dpx_rgb, exr_light, luminance
from tests.support.made_films import MKV, make_film, opened, read
from tests.support.made_reels import SUFFIXES, Kind, dpx_file, scene, write_frame, write_reel

FRAMES = scene(12)
ROOT = Path(__file__).parents[2]


def run(
    path: Path, out: Path, plugins: Path | None = None, *, reading: Any = None, segment: int = 5, kind: str = "", **write: Any
) -> Any:
    rate = {} if path.suffix == ".mkv" else {"rate": 24}
    stages: list[Any] = [{"use": "read", "path": str(path), **rate, **(reading or {})}]
    stages += [{"use": "paint_reel"}] if plugins else []
    stages += [{"use": "write", "path": str(out), **({"as": kind} if kind else {}), **write}]
    graph = {"segment": segment, "stages": stages, **({"plugins": [str(plugins)]} if plugins else {})}
    result = bwpipe.run(graph)
    assert not result.failed, result.failed
    return result


def reel(tmp_path: Path, kind: Kind, **options: Any) -> Path:
    write_reel(tmp_path / "in", kind, FRAMES, **options)
    return tmp_path / "in" / f"reel1_%06d{SUFFIXES[kind]}"


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.is_file())


def rgb_of(path: Path) -> NDArray[Any]:
    """The samples of a file by readers other than bwpipe's, but for DPX and OpenEXR, which FFmpeg decodes."""
    if path.suffix == ".tif":
        return np.asarray(tifffile.imread(path))
    if path.suffix == ".png":
        return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))[..., ::-1]
    if path.suffix == ".dpx":
        return dpx_rgb(path.read_bytes())[0]
    return np.asarray(Image.open(path))


def luma(rgb: NDArray[Any], weights: Sequence[float]) -> NDArray[Any]:
    return np.asarray(np.rint(rgb.astype(np.float64) @ np.array(weights)))


@pytest.mark.parametrize(("kind", "white"), [("png8", 255), ("png16", 65535), ("tiff16", 65535)])
def test_a_reel_of_pictures_becomes_one_of_the_same_kind_numbers_and_luma(
    kind: Kind, white: int, tmp_path: Path, plugins: Path
) -> None:
    path = reel(tmp_path, kind, first=86400)

    run(path, tmp_path / "out", plugins)

    assert names(tmp_path / "out") == [f"reel1_{number:06d}{SUFFIXES[kind]}" for number in range(86400, 86412)]
    for number, frame in enumerate(FRAMES, 86400):
        rgb = rgb_of(tmp_path / f"out/reel1_{number:06d}{SUFFIXES[kind]}")
        assert np.array_equal(luma(rgb, WEIGHTS["bt601"]), np.rint(frame * white))
        assert (rgb[..., 0] > rgb[..., 1]).mean() > 0.9


def test_tags_of_each_tiff_file_are_kept(tmp_path: Path, plugins: Path) -> None:
    run(reel(tmp_path, "tiff16"), tmp_path / "out", plugins)

    with tifffile.TiffFile(tmp_path / "out/reel1_000007.tif") as file:
        page: Any = file.pages[0]
        assert (page.tags["Software"].value, page.tags["ImageDescription"].value) == ("scanner", "frame 7")
        assert page.dtype == np.uint16


def test_logarithmic_dpx_keeps_codes_and_header(tmp_path: Path, plugins: Path) -> None:
    run(reel(tmp_path, "dpx"), tmp_path / "out", plugins)

    for number, frame in enumerate(FRAMES, 1):
        before, after = ((tmp_path / folder / f"reel1_{number:06d}.dpx").read_bytes() for folder in ("in", "out"))
        assert dpx.film_headers(after) == dpx.film_headers(before)
        assert (dpx.read_header(after), after[160:172]) == (dpx.read_header(before), b"bwpipe tests")
        assert np.array_equal(luma(dpx_rgb(after)[0], WEIGHTS["bt709"]), np.rint(95 + frame * 590))
        assert len(after) == struct.unpack_from(">I", after, 16)[0]
        red, green, _ = dpx_rgb(after)[0].reshape(-1, 3).T.astype(int)
        assert (red > green).mean() > 0.9


def test_what_openexr_says_of_its_making_is_short_enough_for_ffmpeg_and_is_replaced(tmp_path: Path, plugins: Path) -> None:
    run(reel(tmp_path, "png8"), tmp_path / "out", plugins, format="exr")
    run(tmp_path / "out/reel1_%06d.exr", tmp_path / "again", name="{stem}")

    for folder, stages in (("out", 3), ("again", 2)):
        data = (tmp_path / folder / "reel1_000005.exr").read_bytes()
        assert max(len(each.value) for each in exr.read_header(data).attributes.values()) <= 255
        made = split_note(exr.read_note(data))[1]
        assert made is not None
        assert len(made.stages) == stages


def test_openexr_keeps_the_light_and_the_attributes(tmp_path: Path, plugins: Path) -> None:
    path = reel(tmp_path, "exr")
    bright = tmp_path / "in/reel1_000003.exr"
    light = (3 * FRAMES[2]).astype(np.float16)
    bright.write_bytes(exr.encode(dict.fromkeys("RGB", light), b""))

    run(path, tmp_path / "out", plugins)

    for number in range(1, 13):
        before, after = ((tmp_path / folder / f"reel1_{number:06d}.exr").read_bytes() for folder in ("in", "out"))
        assert ("owner" in exr.read_header(after).attributes) == (number != 3)
        assert "bwpipe" in exr.read_header(after).attributes
        was, now = (luminance(exr_light(data)[0], WEIGHTS["bt709"]) for data in (before, after))
        exact = was.astype(np.float16) == now.astype(np.float16)
        assert exact.mean() > 0.98
        assert np.abs(now / was - 1).max() < 2**-10


@pytest.mark.parametrize("target", ["png", "tiff", "jpeg", "dpx", "exr"])
@pytest.mark.parametrize("kind", ["png8", "tiff16", "dpx", "exr"])
def test_each_kind_of_frame_becomes_each_other(kind: Kind, target: str, tmp_path: Path) -> None:
    write_reel(tmp_path / "in", kind, FRAMES[:4])

    run(tmp_path / "in" / f"reel1_*{SUFFIXES[kind]}", tmp_path / "out", format=target, name="{stem}-{frame:04d}")

    suffix = {"png": ".png", "tiff": ".tif", "jpeg": ".jpg", "dpx": ".dpx", "exr": ".exr"}[target]
    assert names(tmp_path / "out") == [f"reel1-{number:04d}{suffix}" for number in range(1, 5)]
    again = run(tmp_path / "out" / f"reel1-%04d{suffix}", tmp_path / "film", codec="ffv1", kind="film")
    film = opened(tmp_path / "film/reel1.mkv")
    assert (film.frames, again.done) == (4, 1)
    shown = np.stack([full_display(frame.luma, film.depth, kind, target) for frame in read(film)])
    off = np.abs(shown - FRAMES[:4])
    assert (off.mean() < 0.01) if target == "jpeg" else (off.max() < 0.003)


def full_display(codes: NDArray[Any], depth: int, kind: str, target: str) -> NDArray[Any]:
    """The frame in 0..1 that codes were made of, whatever they mean now."""
    signal = codes / ((1 << depth) - 1)
    if kind == "exr" or (kind == "dpx" and target == "exr"):
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
        if kind == "exr":
            return np.asarray(light ** (1 / 2.2))
        black = 10 ** ((95 - 685) * 0.002 / 0.6)
        return np.asarray((np.log10(light * (1 - black) + black) * 300 + 590) / 590)
    if kind == "dpx":
        return np.asarray((signal * 1023 - 95) / 590)
    return np.asarray(signal)


def test_a_film_in_one_file_becomes_frames_counted_from_0(tmp_path: Path, plugins: Path) -> None:
    film = make_film(tmp_path / "film.mkv", MKV)

    result = run(film, tmp_path / "out", plugins, format="png", kind="frames")

    assert result.done == 1
    assert names(tmp_path / "out")[:2] == ["film_000000.png", "film_000001.png"]
    source = opened(film)
    black, white = source.levels
    for frame in read(source):
        expected = np.rint((frame.luma.astype(float) - black) * 255 / (white - black)).clip(0, 255)
        assert np.array_equal(luma(rgb_of(tmp_path / f"out/film_{frame.index:06d}.png"), WEIGHTS[source.matrix]), expected)


def test_gaps_stay_gaps(tmp_path: Path) -> None:
    run(reel(tmp_path, "png8", skip=(4, 5)), tmp_path / "out", reading={"gaps": "hold"})

    assert names(tmp_path / "out") == names(tmp_path / "in")


def test_what_is_finished_is_not_done_again_and_what_is_missing_is_written_again(tmp_path: Path, plugins: Path) -> None:
    path = reel(tmp_path, "png8")
    run(path, tmp_path / "out", plugins)
    before = {name: (tmp_path / "out" / name).stat() for name in names(tmp_path / "out")}

    assert run(path, tmp_path / "out", plugins).already == 1
    (tmp_path / "out/reel1_000007.png").unlink()
    again = run(path, tmp_path / "out", plugins)

    assert (again.done, again.meters["read"].items) == (1, 5)
    after = {name: (tmp_path / "out" / name).stat() for name in names(tmp_path / "out")}
    assert after.keys() == before.keys()
    untouched = [name for name in before if after[name].st_ino == before[name].st_ino]
    assert len(untouched) == 7


def test_a_frame_that_is_the_users_is_kept_and_named(tmp_path: Path) -> None:
    path = reel(tmp_path, "png8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/reel1_000004.png").write_bytes(b"mine")

    kept = run(path, tmp_path / "out")
    assert kept.kept == [tmp_path / "out/reel1_000004.png"]
    assert names(tmp_path / "out") == ["reel1_000004.png"]

    assert run(path, tmp_path / "out", overwrite=True).done == 1
    assert run(path, tmp_path / "out").already == 1


def test_frames_of_a_changed_recipe_replace_those_of_the_last(tmp_path: Path, plugins: Path) -> None:
    path = reel(tmp_path, "png8")
    run(path, tmp_path / "out")
    grey = (tmp_path / "out/reel1_000001.png").read_bytes()

    assert run(path, tmp_path / "out", plugins).done == 1
    assert (tmp_path / "out/reel1_000001.png").read_bytes() != grey
    assert run(path, tmp_path / "out").done == 1
    assert (tmp_path / "out/reel1_000001.png").read_bytes() == grey


def test_the_inputs_are_never_overwritten(tmp_path: Path) -> None:
    path = reel(tmp_path, "png8")
    before = {name: (tmp_path / "in" / name).read_bytes() for name in names(tmp_path / "in")}

    stages = [{"use": "read", "path": str(path), "rate": 24}, {"use": "write", "path": str(tmp_path / "in"), "overwrite": True}]
    result = bwpipe.run({"stages": stages})

    assert result.failed
    assert {name: (tmp_path / "in" / name).read_bytes() for name in names(tmp_path / "in")} == before


def test_frames_can_keep_the_dates_of_theirs(tmp_path: Path) -> None:
    path = reel(tmp_path, "png8")
    for number, each in enumerate(sorted((tmp_path / "in").iterdir())):
        os.utime(each, ns=(10**18 + number, 10**18 + number))

    run(path, tmp_path / "out", times="keep")

    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").glob("*.png"))] == [10**18 + n for n in range(12)]
    assert run(path, tmp_path / "out", times="keep").already == 1


def test_outputs_beside_the_inputs_are_not_read_again(tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "png8", FRAMES)
    folder = tmp_path / "in"

    first = run(folder, folder, reading={"sequence": True}, name="{stem}-coloured_{frame:06d}")
    again = run(folder, folder, reading={"sequence": True}, name="{stem}-coloured_{frame:06d}")

    assert (first.done, again.done, again.already) == (1, 0, 1)
    assert len(names(folder)) == 24


def test_pictures_are_not_written_as_dpx(tmp_path: Path) -> None:
    write_frame(tmp_path / "one.png", "png8", FRAMES[0])

    stages = [
        {"use": "read", "path": str(tmp_path / "one.png")},
        {"use": "write", "path": str(tmp_path / "out"), "format": "dpx"},
    ]
    result = bwpipe.run({"stages": stages})

    assert "frames of films only" in next(iter(result.failed.values()))


def test_frames_in_colour_that_is_kept_are_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(5)
    for number in range(3):
        rgb = rng.integers(100, 900, (32, 48, 3)).astype(np.uint16)
        (tmp_path / f"in/f{number:03d}.dpx").write_bytes(dpx_file(rgb))

    stages: list[Any] = [{"use": "read", "path": str(tmp_path / "in/f%03d.dpx"), "rate": 24}]
    stages += [{"use": "grayscale", "colour": "keep"}, {"use": "colorize"}, {"use": "write", "path": str(tmp_path / "out")}]
    assert not bwpipe.run({"stages": stages}).failed

    for path in sorted((tmp_path / "in").iterdir()):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_names_of_any_bytes_are_written(tmp_path: Path, plugins: Path) -> None:
    write_reel(tmp_path / "in", "png8", FRAMES[:3], prefix=os.fsdecode(b"r\xe9el_"))

    stages: list[Any] = [{"use": "read", "path": str(tmp_path / "in"), "sequence": True, "rate": 24}]
    stages += [{"use": "write", "path": str(tmp_path / "out")}]
    assert bwpipe.run({"stages": stages}).done == 1
    assert bwpipe.run({"stages": stages}).already == 1

    assert names(tmp_path / "out") == names(tmp_path / "in")


KILLED = """
import os, signal, sys
from bwpipe.core import atomic_file
from bwpipe.sequence import output
import bwpipe

where, graph = sys.argv[1], sys.argv[2]
renamed = output.publish_together
calls = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def publish(files):
    global calls
    calls += 1
    if calls == 2:
        if where == "half of the frames renamed":
            renamed(files[: len(files) // 2])
        die()
    renamed(files)

if where == "a frame half written":
    encode = output.FrameEncoder.write
    def write(self, path, name, frame):
        if frame.index == 7:
            path.write_bytes(b"half")
            die()
        encode(self, path, name, frame)
    output.FrameEncoder.write = write
else:
    output.publish_together = publish
bwpipe.run(graph)
"""
"""A run that dies while it writes its second segment."""


@pytest.mark.parametrize("where", ["a frame half written", "the record published", "half of the frames renamed"])
def test_a_killed_run_goes_on_to_the_same_bytes(where: str, tmp_path: Path, plugins: Path) -> None:
    path = reel(tmp_path, "tiff16")
    run(path, tmp_path / "calm", plugins)
    reading = {"use": "read", "path": str(path), "rate": 24}
    stages = [reading, {"use": "paint_reel"}, {"use": "write", "path": str(tmp_path / "killed")}]
    graph = tmp_path / "graph.yaml"
    graph.write_text(json.dumps({"segment": 5, "plugins": [str(plugins)], "stages": stages}), encoding="utf-8")

    died = subprocess.run([sys.executable, "-c", KILLED, where, str(graph)], cwd=ROOT, check=False)
    there = names(tmp_path / "killed")
    result = bwpipe.run(graph)

    assert died.returncode == -signal.SIGKILL
    assert len(there) == {"a frame half written": 5, "the record published": 5, "half of the frames renamed": 7}[where]
    assert (result.done, result.meters["read"].items, result.kept) == (1, 7, [])
    assert names(tmp_path / "killed") == names(tmp_path / "calm")
    for name in names(tmp_path / "calm"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "calm" / name).read_bytes()
    assert not list((tmp_path / "killed/.bwpipe").glob("*.part*"))
