"""Key frames: what motion does not explain."""

from collections.abc import Sequence

import cv2
import numpy as np

from bwpipe import Frame
from bwpipe.motion.key_frames import MOST_APART
from bwpipe.testing import run_stage
from tests.support.made_scenes import WIDTH, Planes, film_of, scene


def keys(frames: Sequence[Frame]) -> list[int]:
    return [frame.index for frame in frames if frame.motion and frame.motion.key]


def shown(planes: Planes) -> list[Frame]:
    return run_stage("shots", film_of(planes))


def test_a_scene_that_motion_explains_has_a_key_frame_every_eighth_and_one_at_its_end() -> None:
    assert keys(shown(scene(22, 1, speed=(0, 0), grain=0))) == [0, 8, 16, 21]


def test_every_frame_is_near_a_key_frame_of_its_own_shot() -> None:
    lengths = (9, 31, 27, 1, 14)
    frames = shown([plane for seed, length in enumerate(lengths) for plane in scene(length, seed, speed=(0, seed))])
    found = keys(frames)

    for start in (frame.index for frame in frames if frame.motion and frame.motion.cut):
        assert start in found
        stop = next((frame.index for frame in frames[start + 1 :] if frame.motion and frame.motion.cut), len(frames))
        own = np.array([key for key in found if start <= key < stop])
        assert all(np.abs(own - index).min() <= MOST_APART // 2 for index in range(start, stop))


def test_something_that_comes_into_the_picture_makes_a_key_frame() -> None:
    planes = scene(30, 3, speed=(0, 0), grain=1)
    thing = cv2.resize(np.random.default_rng(0).random((8, 8), dtype=np.float32), (60, 80), interpolation=cv2.INTER_CUBIC)
    for i in range(12, 30):
        wide = min(8 * (i - 11), 60)
        planes[i][8:88, WIDTH - wide :] = 40 + 200 * thing[:, :wide]

    found = keys(shown(planes))

    assert any(12 <= key < 16 for key in found)
    assert len(found) > len(keys(shown(scene(30, 3, speed=(0, 0), grain=1))))


def test_a_fast_turn_of_the_camera_has_more_key_frames_than_a_still_one() -> None:
    still, fast = (keys(shown(scene(40, 4, speed=(0, speed), grain=1))) for speed in (0, 5))

    assert 2 * len(still) < len(fast)


def test_flicker_of_the_light_alone_makes_few_key_frames() -> None:
    rng = np.random.default_rng(0)
    planes = [np.asarray(plane + rng.uniform(-8, 8), np.float32) for plane in scene(33, 5, speed=(0, 0), grain=1)]

    assert len(keys(shown(planes))) <= 2 * len(range(0, 33, MOST_APART))
