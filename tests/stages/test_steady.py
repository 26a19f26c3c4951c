"""The `steady` stage, and graphs in which frames are skipped."""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from bwpipe import Frame, MediaError, RunAborted
from bwpipe.core import plugins
from bwpipe.core.frame import Motion
from bwpipe.core.stage import stages
from bwpipe.engine.run import run
from bwpipe.graph.graph import read_graph
from bwpipe.graph.yaml_loader import ConfigError
from bwpipe.nn.checkpoint import Checkpoint, save
from bwpipe.nn.network import networks
from bwpipe.testing import coloured, make_frames, run_stage
from tests.support.made_films import Kind, make_film
from tests.support.made_scenes import HEIGHT, WIDTH, film_of, scene

NETWORKS = Path(__file__).parents[1] / "support" / "networks"
GRID = (48, 64)
Paint = Callable[[Frame], NDArray[np.float32]]


def motion(frame: Frame) -> Motion:
    assert frame.motion is not None
    return frame.motion


def chroma(frame: Frame) -> NDArray[np.float32]:
    assert frame.chroma is not None
    return frame.chroma.astype(np.float32)


def painted(frames: Sequence[Frame], paint: Paint, every: int | str = 1) -> list[Frame]:
    """Frames as output by `shots` and a network."""

    def is_seen(frame: Frame) -> bool:
        return motion(frame).key if isinstance(every, str) else motion(frame).since % every == 0

    frames = run_stage("shots", frames)
    return [replace(frame, chroma=paint(frame).astype(np.float16)) if is_seen(frame) else frame for frame in frames]


def filled(frames: Sequence[Frame]) -> list[Frame]:
    """Frames as output by `steady` in a graph in which the network sees some of them only."""
    names = ("read", "grayscale", "shots", "colorize", "steady", "write")
    nodes = read_graph(graph(*names, read={"path": "."}, write={"path": "out"})).nodes
    stage: Any = next(node.stage for node in nodes if node.stage.registered == "steady")
    return list(stage.apply(iter(frames)))


def restless(frame: Frame) -> NDArray[np.float32]:
    """Chroma that follows luma, with a different tint in each frame."""
    rng = np.random.default_rng(frame.index)
    light = cv2.resize(frame.luma.astype(np.float32), GRID[::-1], interpolation=cv2.INTER_AREA) / 255 - 0.5
    return np.stack([0.3 * light + rng.normal(0, 0.02), -0.2 * light + 0.1 + rng.normal(0, 0.02)])


def restlessness(frames: Sequence[Frame], step: tuple[int, int]) -> float:
    """The mean change of chroma, in code values, of a scene that moves by `step` chroma cells per frame."""
    down, across = step
    height, width = GRID
    changes = []
    for before, after in itertools.pairwise(frames):
        old = chroma(before)[:, max(0, down) : height + min(0, down), max(0, across) : width + min(0, across)]
        new = chroma(after)[:, max(0, -down) : height + min(0, -down), max(0, -across) : width + min(0, -across)]
        changes.append(255 * np.hypot(*(old - new)).mean())
    return float(np.mean(changes))


def vividness(frames: Sequence[Frame]) -> float:
    return float(np.mean([np.hypot(*chroma(frame)).mean() for frame in frames]))


@pytest.mark.parametrize("every", [1, 4, "auto"])
def test_chroma_changes_less_than_half_as_much_and_is_as_vivid(every: int | str) -> None:
    frames = film_of(scene(40, 1, speed=(0, 2)))
    full, given = painted(frames, restless), painted(frames, restless, every)

    made = run_stage("steady", given)

    assert restlessness(made, (0, 1)) < 0.4 * restlessness(full, (0, 1))
    assert abs(vividness(made) / vividness([frame for frame in given if frame.chroma is not None]) - 1) < 0.03
    for before, after in zip(frames, made, strict=True):
        assert after.luma is before.luma
        assert (after.index, after.pts, after.unit) == (before.index, before.pts, before.unit)
        assert after.chroma is not None
        assert after.chroma.shape == (2, *GRID)
        assert after.chroma.dtype == np.float16
        assert not after.chroma.flags.writeable


def test_a_budget_already_met_removes_no_more_than_the_target_share() -> None:
    frames = painted(film_of(scene(30, 1, speed=(0, 2), grain=8)), restless)
    change = restlessness(frames, (0, 1))

    shares = [restlessness(run_stage("steady", frames, max_flicker=most), (0, 1)) / change for most in (100, 0)]

    assert 0.15 < shares[0] < 0.4
    assert shares[1] < 0.6 * shares[0]


def test_pulsing_vividness_is_smoothed() -> None:
    def pulsing(frame: Frame) -> NDArray[np.float32]:
        rng = np.random.default_rng(frame.index)
        light = cv2.resize(frame.luma.astype(np.float32), GRID[::-1], interpolation=cv2.INTER_AREA) / 255 - 0.5
        return np.asarray(np.stack([0.3 * light, 0.1 - 0.2 * light]) * rng.uniform(0.7, 1.3), np.float32)

    given = painted(film_of(scene(40, 1, speed=(0, 2))), pulsing)

    made = run_stage("steady", given, max_flicker=0)

    came, left = (np.array([vividness([frame]) for frame in frames]) for frames in (given, made))
    assert np.abs(np.diff(left)).mean() < 0.055 * np.abs(np.diff(came)).mean()
    assert 0.95 < left.mean() / came.mean() < 1.01


@pytest.mark.parametrize("every", [1, 4, "auto"])
def test_no_chroma_crosses_a_cut(every: int | str) -> None:
    frames = film_of(scene(14, 1) + scene(14, 2))

    def two_tones(frame: Frame) -> NDArray[np.float32]:
        return np.full((2, *GRID), 0.2 if frame.index < 14 else -0.2)

    made = run_stage("steady", painted(frames, two_tones, every))

    for frame in made:
        assert np.abs(chroma(frame) - (0.2 if frame.index < 14 else -0.2)).max() < 1e-3, frame.index


@pytest.mark.parametrize("every", [1, 4, "auto"])
def test_moving_objects_do_not_bleed_into_what_they_cover_and_uncover(every: int | str) -> None:
    planes = scene(24, 3, speed=(0, 0), grain=1)
    inside = np.zeros((24, HEIGHT, WIDTH), bool)
    for i, plane in enumerate(planes):
        inside[i, 30:66, 4 + 4 * i : 28 + 4 * i] = True
        plane[inside[i]] = 235 - 30 * ((np.arange(36)[:, None] // 6 + np.arange(24) // 6) % 2).ravel()

    def two_tones(frame: Frame) -> NDArray[np.float32]:
        share = cv2.resize(inside[frame.index].astype(np.float32), GRID[::-1], interpolation=cv2.INTER_AREA)
        return np.stack([0.2 - 0.4 * share, 0.4 * share - 0.2])

    frames = painted(film_of(planes), two_tones, every)
    made = run_stage("steady", frames) if every == 1 else filled(frames)

    miss = [255 * np.hypot(*(chroma(frame) - two_tones(frame))).mean() for frame in made]
    assert max(miss) < (2 if every == 1 else 5)


def test_what_rests_keeps_its_chroma_where_the_flow_creeps() -> None:
    rng = np.random.default_rng(0)
    planes = scene(40, 3, speed=(0, 0), grain=2)
    left = cv2.resize(rng.random((6, 8)), GRID[::-1], interpolation=cv2.INTER_CUBIC) > 0.5

    def two_tones(frame: Frame) -> NDArray[np.float32]:
        return np.stack([np.where(left, 0.2, -0.2), np.where(left, -0.1, 0.1)])

    frames = painted(film_of(planes), two_tones, 4)
    creeping = []
    for frame in frames:
        back, on = motion(frame).back, motion(frame).on
        off = np.float32(0.15)
        crept = replace(motion(frame), back=None if back is None else back + off, on=None if on is None else on - off)
        creeping.append(replace(frame, motion=crept))

    def miss(made: Sequence[Frame]) -> float:
        return float(np.mean([255 * np.abs(chroma(frame) - two_tones(frame)).mean() for frame in made]))

    assert miss(filled(frames)) < 0.2
    assert miss(filled(creeping)) < miss(run_stage("steady", creeping, window=18)) / 3


def test_a_part_alone_is_the_same_as_within_the_film() -> None:
    frames = film_of(scene(40, 1) + scene(38, 2))
    whole = run_stage("steady", painted(frames, restless))
    unit = replace(frames[0].unit, start=35, stop=50)
    cls: list[Any] = [stages["shots"], stages["steady"]]
    context = sum(each().context for each in cls)
    part = [
        replace(frame, unit=unit, context=not 35 <= frame.index < 50) for frame in frames[max(0, 35 - context) : 50 + context]
    ]

    alone = [frame for frame in run_stage("steady", painted(part, restless)) if not frame.context]

    assert [frame.index for frame in alone] == list(range(35, 50))
    for frame in alone:
        assert_array_equal(frame.chroma, whole[frame.index].chroma)


def test_pictures_pass_through_unchanged() -> None:
    frames = [coloured(frame) for frame in make_frames(3)]

    assert all(made is frame for made, frame in zip(run_stage("steady", frames), frames, strict=True))


def test_a_film_without_motion_or_chroma_is_refused() -> None:
    frames = make_frames(3, film=True)

    with pytest.raises(MediaError, match="add the stage `shots` above"):
        run_stage("steady", [coloured(frame) for frame in frames])
    with pytest.raises(MediaError, match="add the stage `colorize` between"):
        run_stage("steady", run_stage("shots", frames))


def graph(*names: str, **options: Any) -> dict[str, Any]:
    return {"stages": [{"use": name, **options.get(name, {})} for name in names]}


def test_a_graph_that_skips_frames_without_filling_them_in_is_refused() -> None:
    options = {"read": {"path": "."}, "write": {"path": "out"}, "colorize": {"every": 4}}

    read_graph(graph("read", "shots", "colorize", "steady", "write", **options))
    with pytest.raises(ConfigError, match="leaves chroma of every frame to a stage below it; add 'steady' below it"):
        read_graph(graph("read", "shots", "colorize", "write", **options))
    with pytest.raises(ConfigError, match="'colorize' needs motion, which no stage above it provides; add 'shots' above it"):
        read_graph(graph("read", "colorize", "steady", "write", **options))
    with pytest.raises(ConfigError, match="'steady' needs motion"):
        read_graph(graph("read", "colorize", "steady", "shots", "write", **(options | {"colorize": {}})))


def test_which_frames_are_skipped_follows_from_whether_all_ways_on_fill_them_in() -> None:
    unit = replace(film_of(scene(3, 1))[0].unit)

    def every(*names: str, ways: Sequence[dict[str, Any]] = (), **options: Any) -> Any:
        described = graph(*names, read={"path": "."}, write={"path": "out"}, colorize=options)
        described["stages"] += ways
        (stage,) = (node.stage for node in read_graph(described).nodes if node.stage.registered == "colorize")
        return stage.recipe(unit)["every"]

    plain = {"use": "write", "id": "plain", "from": "colorize", "path": "plain"}
    assert every("read", "grayscale", "shots", "colorize", "steady", "write") == "auto"
    assert every("read", "grayscale", "shots", "colorize", "steady", "write", every=1) == 1
    assert every("read", "grayscale", "shots", "colorize", "write") == 1
    assert every("read", "grayscale", "colorize", "write") == 1
    assert every("read", "grayscale", "shots", "colorize", "steady", "write", ways=[plain]) == 1
    assert every("read", "grayscale", "shots", "colorize", "steady", "write", every=4) == 4


def test_the_window_is_wider_where_the_network_sees_some_frames_only() -> None:
    def steady(**options: dict[str, Any]) -> Any:
        names = ("read", "grayscale", "shots", "colorize", "steady", "write")
        nodes = read_graph(graph(*names, read={"path": "."}, write={"path": "out"}, **options)).nodes
        return next(node.stage for node in nodes if node.stage.registered == "steady")

    dense, sparse, wide = steady(colorize={"every": 1}), steady(), steady(steady={"window": 22})
    assert [stage.context for stage in (dense, sparse, wide)] == [15, 25, 27]


def test_filled_in_chroma_changes_less_with_more_seen_frames_in_the_window() -> None:
    given = painted(film_of(scene(40, 1, speed=(0, 2))), restless, 8)

    wide, narrow = (restlessness(run_stage("steady", given, window=window), (0, 1)) for window in (16, 8))
    assert wide < 0.9 * narrow


TRIP = '''
"""A stage that aborts a run."""

from bwpipe import Frame, Map, NoEffect, RunAborted, stage


@stage("stumble")
class Stumble(Map):
    """Aborts the run at a frame."""

    at: NoEffect[int] = -1

    def apply(self, frame: Frame) -> Frame:
        if frame.index == self.at and not frame.context:
            raise RunAborted("simulated power failure")
        return frame
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plug-in that aborts a run, the weights of a small network, and a film."""
    folder = tmp_path_factory.mktemp("stumbling")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "stumble.py").write_text(TRIP)
    plugins.load([NETWORKS])
    torch.manual_seed(3)
    cls = networks["test-wandering"]
    save(folder / "net.safetensors", cls(cls.Options()), Checkpoint(network="test-wandering", version="0"))
    make_film(folder / "film.mkv", Kind(suffix=".mkv", times=range(0, 1120, 40), time_base=Kind().time_base))
    return folder


@pytest.mark.parametrize("every", [1, 4, "auto"])
def test_segments_done_in_two_runs_are_those_of_one_run(tmp_path: Path, folder: Path, every: int | str) -> None:
    network = {"model": str(folder / "net.safetensors"), "every": every, "precision": "float32", "device": "cpu", "batch": 2}

    def colour(out: str, at: int, segment: int = 14) -> Any:
        stages = [
            {"use": "read", "path": str(folder / "film.mkv")},
            {"use": "grayscale", "colour": "recolour"},
            {"use": "shots"},
            {"use": "colorize", **network},
            {"use": "steady", "window": 8},
            {"use": "stumble", "at": at},
            {"use": "write", "path": str(tmp_path / out), "codec": "ffv1"},
        ]
        return run({"plugins": [str(NETWORKS), str(folder / "plugins")], "segment": segment, "stages": stages})

    def shots(out: str) -> list[dict[str, float]]:
        lines = (tmp_path / out / ".bwpipe" / "report.jsonl").read_text().splitlines()
        events = [event for event in map(json.loads, lines) if event["event"] == "shot"]
        return [{key: value for key, value in shot.items() if isinstance(value, int | float)} for shot in events]

    outcome = colour("one", -1)
    assert outcome.exit_code == 0
    with pytest.raises(RunAborted):
        colour("two", 20)
    assert colour("two", -1).exit_code == 0

    assert (tmp_path / "one" / "film.mkv").read_bytes() == (tmp_path / "two" / "film.mkv").read_bytes()
    assert shots("two") == shots("one")  # its first segments were done by the aborted run
    assert sum(shot["frames"] for shot in shots("one")) == 28
    assert outcome.lines[0].startswith(f"film.mkv: {len(shots('one'))} shot")
    if every == 1:
        colour("whole", -1, segment=1000)
        for shot, whole in zip(shots("one"), shots("whole"), strict=True):
            assert shot == pytest.approx(whole, rel=1e-3, abs=2e-4)
            assert shot["flicker"] < shot["flicker_before"]
