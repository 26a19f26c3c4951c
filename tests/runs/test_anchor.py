"""The stage `anchor`, in whole runs of small films: shots of one scene, another, and the first again."""

import json
import signal
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from bwpipe import UsageError, run
from bwpipe.core import plugins
from bwpipe.engine.run import RunResult
from bwpipe.nn.checkpoint import Checkpoint, save
from bwpipe.nn.network import networks
from bwpipe.video.segment_outline import is_outline
from tests.support.apart import run_apart
from tests.support.made_photos import write_photos

NETWORKS = Path(__file__).parents[1] / "support" / "networks"
SHOT, SEGMENT, RATE, SIZE = 13, 9, 2, (128, 96)
"""The film's frames in a shot, in a segment and in a second: every fourth is a key frame, and three shots are five segments."""
TRIP = '''
import os
import signal

from bwpipe import Frame, Map, MediaError, NoEffect, stage


@stage("kill_at")
class KillAt(Map):
    """Kills the run, or fails the film, at a frame."""

    at: NoEffect[int] = -9
    fail: NoEffect[bool] = False

    def apply(self, frame: Frame) -> Frame:
        if frame.index == self.at and self.fail:
            raise MediaError("it is torn")
        if frame.index == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return frame
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The film, the weights, and a plug-in that kills a run."""
    folder = tmp_path_factory.mktemp("anchor")
    plugins.load([NETWORKS])
    torch.manual_seed(3)
    cls = networks["test-wandering"]
    save(folder / "net.safetensors", cls(cls.Options()), Checkpoint(network="test-wandering", version="0"))
    (folder / "trip").mkdir()
    (folder / "trip" / "trip.py").write_text(TRIP)
    (folder / "film").mkdir()
    make(folder / "film" / "film.mkv")
    return folder


def picture(seed: int) -> NDArray[np.float64]:
    """A scene of large patches, (96, 128)."""
    patches = np.random.default_rng(seed).uniform(60, 200, (6, 8))
    return patches.repeat(16, axis=0).repeat(16, axis=1)


def make(path: Path, texture: float = 0, turn: tuple[int, bool] = (0, False), shots: int = 3, pan: int = 0) -> None:
    """Write a film of three shots, or fewer, the third of the first one's scene, under a lamp that gets brighter and darker.

    With a texture, of this size in code values, each patch looks different. A player turns it counter-clockwise, in degrees,
    and mirrors it. What it shows moves to the right by so many pixels a frame, and comes back from the left.
    """
    surface = np.random.default_rng(7).normal(0, texture, SIZE[::-1]) if texture else np.zeros(SIZE[::-1])
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=RATE)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "gray"
        if turn != (0, False):
            stream.set_display_rotation(turn[0], vflip=turn[1])
        for number in range(shots * SHOT):
            luma = picture(1 if number // SHOT != 1 else 2) * (1 + 0.02 * np.sin(number / 2.8)) + rng.normal(0, 1, SIZE[::-1])
            luma = np.roll(luma + surface, pan * number, axis=1)
            frame = VideoFrame.from_ndarray(np.rint(luma).clip(0, 255).astype(np.uint8), format="gray")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def graph(
    folder: Path, out: Path, *, anchor: bool = True, source: str = "film", kill: int = -9, **settings: Any
) -> dict[str, Any]:
    stages: list[dict[str, Any]] = [
        {"use": "read", "path": str(folder / source)},
        {"use": "grayscale"},
        {"use": "kill_at", "at": kill},
        {"use": "shots"},
        {"use": "colorize", "model": str(folder / "net.safetensors"), "device": "cpu", "precision": "float32", "workers": 1},
        *([{"use": "anchor"}] if anchor else []),
        {"use": "write", "path": str(out), "codec": "ffv1", "pix_fmt": "yuv444p", "threads": 1},
    ]
    return {"plugins": [str(NETWORKS), str(folder / "trip")], "segment": SEGMENT, **settings, "stages": stages}


def chroma(path: Path) -> NDArray[np.float64]:
    """The chroma of a film, in code values, (frames, 2, H, W)."""
    with av.open(str(path)) as film:
        frames = [frame.to_ndarray(format="yuv444p")[1:] for frame in film.decode(video=0)]
    return np.asarray(frames, np.float64) - 128


def shots(out: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (out / ".bwpipe" / "report.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == "shot"]


def work_files(out: Path) -> list[str]:
    """What is kept of films, but for outlines."""
    return sorted(path.name for path in (out / ".bwpipe" / "fragments").glob("*") if not is_outline(path))


@pytest.fixture(scope="module")
def anchored(folder: Path) -> Path:
    assert run(graph(folder, folder / "with")).exit_code == 0
    return folder / "with" / "film.mkv"


@pytest.fixture(scope="module")
def at_once(folder: Path) -> Path:
    """As one segment, of which the drift is measured."""
    assert run(graph(folder, folder / "at once", segment="off")).exit_code == 0
    return folder / "at once" / "film.mkv"


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    assert run(graph(folder, folder / "without", anchor=False, segment="off")).exit_code == 0
    return folder / "without" / "film.mkv"


def test_colours_hold_within_a_shot_and_when_its_scene_is_shown_again(anchored: Path, plain: Path) -> None:
    before, after = chroma(plain), chroma(anchored)

    for shot in (slice(0, SHOT), slice(SHOT, 2 * SHOT)):
        wandered, held = (each[shot].mean(axis=(2, 3)).std(axis=0).max() for each in (before, after))
        assert held < 0.2 * wandered
    again = np.abs(after[:SHOT].mean(axis=0) - after[2 * SHOT :].mean(axis=0)).mean()
    assert again < 2
    assert np.hypot(*after.swapaxes(0, 1)).mean() > 0.6 * np.hypot(*before.swapaxes(0, 1)).mean()


def test_the_report_says_that_drift_is_less(at_once: Path, plain: Path) -> None:
    without, held = (shots(path.parent) for path in (plain, at_once))

    assert len(held) == len(without) == 3
    for one, other in zip(without, held, strict=True):
        assert other["drift_12"] < 0.3 * one["drift_12"]


def test_the_memory_goes_when_the_film_is_finished(anchored: Path) -> None:
    assert len(work_files(anchored.parent)) == 1  # the memory


def test_a_killed_run_goes_on_with_the_memory_it_made(folder: Path, anchored: Path, tmp_path: Path) -> None:
    killed = run_apart(graph(folder, tmp_path / "out", kill=38))  # no key frame

    assert killed == -signal.SIGKILL
    assert len(work_files(tmp_path / "out")) >= 2  # the memory and a segment
    seen_before = {"kill_at.at": 0, "kill_at.fail": True}  # the first frame is seen again only for a second memory
    assert run(graph(folder, tmp_path / "out"), set=seen_before).exit_code == 0
    assert (tmp_path / "out" / "film.mkv").read_bytes() == anchored.read_bytes()


def test_a_run_killed_in_the_first_pass_resumes_to_the_same_bytes(folder: Path, anchored: Path, tmp_path: Path) -> None:
    killed = run_apart(graph(folder, tmp_path / "out", kill=20))  # a key frame

    assert killed == -signal.SIGKILL
    assert work_files(tmp_path / "out") == []
    run(graph(folder, tmp_path / "out"))
    assert (tmp_path / "out" / "film.mkv").read_bytes() == anchored.read_bytes()


def test_segments_of_any_length_give_the_same_frames(at_once: Path, anchored: Path) -> None:
    np.testing.assert_array_equal(chroma(at_once), chroma(anchored))


def test_numbered_frames_come_out_as_the_same_film_in_one_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "reel").mkdir()
    with av.open(str(folder / "film" / "film.mkv")) as film:
        for number, frame in enumerate(film.decode(video=0)):
            Image.fromarray(frame.to_ndarray(format="gray")).save(tmp_path / f"reel/film_{number:03d}.png")
    as_frames = {"read.rate": RATE, "read.sequence": True, "write.as": "film"}
    some = {"read.frames": SHOT}

    result = run(graph(folder, tmp_path / "out"), set={"read.path": str(tmp_path / "reel"), **as_frames, **some})
    run(graph(folder, tmp_path / "film"), set=some)

    assert (result.done, result.failed) == (1, {})
    np.testing.assert_array_equal(chroma(tmp_path / "out" / "film.mkv"), chroma(tmp_path / "film" / "film.mkv"))


def test_pictures_are_as_they_are_without_it(folder: Path, tmp_path: Path) -> None:
    write_photos(folder / "photos", 3)
    for name, anchor in (("with", True), ("without", False)):
        run(graph(folder, tmp_path / name, anchor=anchor, source="photos"))

    with_it, without = (sorted((tmp_path / name).glob("*.png")) for name in ("with", "without"))
    assert len(with_it) == len(without) == 3
    for one, other in zip(with_it, without, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(other)))


def test_a_network_without_features_is_named_once_and_colours_as_before(folder: Path, tmp_path: Path) -> None:
    stages = graph(folder, tmp_path / "with")["stages"]
    result: RunResult = run(graph(folder, tmp_path / "with"), set={"colorize.model": "autoencoder", "read.frames": 2})
    run(graph(folder, tmp_path / "without", anchor=False), set={"colorize.model": "autoencoder", "read.frames": 2})

    assert stages[5] == {"use": "anchor"}
    assert list(result.remarks) == ["`anchor` does nothing for this network, which has no features; use `model: unet`"]
    np.testing.assert_array_equal(chroma(tmp_path / "with" / "film.mkv"), chroma(tmp_path / "without" / "film.mkv"))


def test_a_key_frame_that_fails_fails_the_film_once(folder: Path, tmp_path: Path) -> None:
    result = run(graph(folder, tmp_path), set={"kill_at.at": 20, "kill_at.fail": True})

    assert result.exit_code == 1
    assert list(result.failed.values()) == ["it is torn"]
    assert not (tmp_path / "film.mkv").exists()


def test_it_needs_a_stage_that_gives_features(folder: Path, tmp_path: Path) -> None:
    wrong = graph(folder, tmp_path)
    wrong["stages"][4], wrong["stages"][5] = wrong["stages"][5], wrong["stages"][4]

    with pytest.raises(Exception, match="'anchor' needs features, which no stage above it provides; add 'colorize' above it"):
        run(wrong)


def still(path: Path, seed: int, tint: tuple[int, int]) -> Path:
    """A scene of the film as a still of one tint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    luma = picture(seed).astype(np.uint8)
    planes = np.stack([luma, np.full_like(luma, 128 + tint[0]), np.full_like(luma, 128 + tint[1])], axis=2)
    Image.fromarray(planes, "YCbCr").convert("RGB").save(path)
    return path


@pytest.mark.parametrize("name", ["film.mkv/000015.png", "film/000015.png", "any.png"])
def test_a_still_of_a_scene_gives_that_scene_its_colours(
    name: str, folder: Path, anchored: Path, plain: Path, tmp_path: Path
) -> None:
    still(tmp_path / "stills" / name, 2, (-20, 30))
    assert (
        run(graph(folder, tmp_path / "out", segment="off"), set={"anchor.reference": str(tmp_path / "stills")}).exit_code == 0
    )

    told, before = chroma(tmp_path / "out" / "film.mkv"), chroma(anchored)
    assert told[SHOT : 2 * SHOT].mean(axis=(0, 2, 3)) == pytest.approx((-20, 30), abs=3)
    others = np.r_[0:SHOT, 2 * SHOT : 3 * SHOT]
    assert np.abs(told[others] - before[others]).mean() < 2


def test_a_film_whose_stills_change_is_done_again_and_no_other(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "in").mkdir(exist_ok=True)
        make(tmp_path / "in" / f"{name}.mkv")
    still(tmp_path / "stills" / "one" / "1.png", 2, (-20, 30))
    options = {
        "read.path": str(tmp_path / "in"),
        "read.frames": 6,
        "anchor.reference": str(tmp_path / "stills"),
    }
    first = run(graph(folder, tmp_path / "out"), set=options)
    still(tmp_path / "stills" / "one" / "1.png", 2, (20, -30))
    again = run(graph(folder, tmp_path / "out"), set=options)

    assert (first.done, again.done, again.already) == (2, 1, 1)


def test_photographs_take_colours_from_the_still_of_their_name_or_the_only_one(folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(picture(1).astype(np.uint8)).save(tmp_path / "in" / f"{name}.png")
    still(tmp_path / "stills" / "a.png", 1, (-20, 30))
    options = {"read.path": str(tmp_path / "in"), "anchor.reference": str(tmp_path / "stills")}

    def tints(out: str) -> list[Any]:
        run(graph(folder, tmp_path / out), set=options)
        images = [Image.open(tmp_path / out / f"{name}.png").convert("YCbCr") for name in ("a", "b")]
        return [np.asarray(image, float)[..., 1:].mean(axis=(0, 1)) - 128 for image in images]

    assert [pytest.approx(tint, abs=4) for tint in tints("only")] == [(-20, 30), (-20, 30)]
    still(tmp_path / "stills" / "b.jpg", 1, (25, -10))
    assert [pytest.approx(tint, abs=4) for tint in tints("both")] == [(-20, 30), (25, -10)]


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("nowhere", "`reference`: there is no file or folder .*nowhere; correct the path"),
        ("trip", "`reference`: .*trip holds no picture; put coloured PNG, JPEG or TIFF files there"),
    ],
)
def test_references_that_are_none_are_refused(reference: str, error: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=error):
        run(graph(folder, tmp_path), set={"anchor.reference": str(folder / reference)})


def test_a_grey_still_fails_the_film_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(1).astype(np.uint8)).save(tmp_path / "grey.png")

    result = run(graph(folder, tmp_path / "out"), set={"anchor.reference": str(tmp_path / "grey.png")})

    (error,) = result.failed.values()
    assert error.endswith("grey.png has no colours; give a picture in colour")
