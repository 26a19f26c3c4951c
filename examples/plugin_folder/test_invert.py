"""How a stage of one's own is tested: through its name, with frames that bwpipe makes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.testing import assert_array_equal

from bwpipe.core import plugins
from bwpipe.testing import make_frames, run_stage

plugins.load([Path(__file__).parent / "mine"])


def test_twice_gives_the_frame_back() -> None:
    frames = make_frames(3)

    made = run_stage("invert", run_stage("invert", frames))

    for frame, twice in zip(frames, made, strict=True):
        assert_array_equal(frame.luma, twice.luma)


def test_what_lies_outside_the_levels_becomes_black_or_white() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    frame = replace(make_frames(levels=(16, 235))[0], luma=ramp)

    [made] = run_stage("invert", [frame])

    assert made.luma.dtype == np.uint8
    assert_array_equal(made.luma, np.clip(251 - ramp.astype(int), 16, 235))
