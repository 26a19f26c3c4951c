"""The memory of a film's colours."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from bwpipe import Frame, MediaError
from bwpipe.memory.film_memory import MOST_BYTES, FilmMemory, remember
from bwpipe.testing import make_frames

SIZE = (8, 12)
"""Of the grid of features."""
RED, BLUE = (-0.05, 0.2), (0.2, -0.05)


def scene(seed: int) -> NDArray[np.float32]:
    """Features (24, h, w) of a scene with two halves, each of one material."""
    rng = np.random.default_rng(seed)
    left, right = rng.normal(0, 1, (2, 24))
    halves = np.where(np.arange(SIZE[1]) < SIZE[1] // 2, left[:, None], right[:, None])[:, None, :]
    return np.asarray(halves + rng.normal(0, 0.3, (24, *SIZE)), np.float32)


def frame(features: NDArray[np.float32], tint: Sequence[float], noise: int | None = None, grid: int = 4) -> Frame:
    """A frame of one tint; `noise` seeds a little noise in its features."""
    if noise is not None:
        features = features + np.random.default_rng(noise).normal(0, 0.05, features.shape).astype(np.float32)
    chroma = np.broadcast_to(np.array(tint, np.float16)[:, None, None], (2, SIZE[0] * grid, SIZE[1] * grid))
    (made,) = make_frames(1, height=64, width=96)
    guide = np.full((64, 96), 120, np.uint8)
    confidence = np.full(SIZE, 0.5, np.float16)
    return Frame(made.luma, made.unit, guide=guide, chroma=chroma, confidence=confidence, features=features.astype(np.float16))


def tint(chroma: NDArray[np.float16] | None) -> NDArray[np.float32]:
    assert chroma is not None
    return np.asarray(chroma.astype(np.float32).mean(axis=(1, 2)))


A, B = scene(1), scene(2)


def test_a_frame_takes_the_mean_of_what_its_scene_has_been() -> None:
    memory = remember([frame(A, (0.1, 0.1), 1), frame(A, (0.1, 0.2), 2), frame(B, (-0.2, 0.0), 3)])

    assert tint(memory.drawn(frame(A, (0.1, -0.1), 4))) == pytest.approx((0.1, 0.15), abs=0.01)
    assert tint(memory.drawn(frame(B, (0.1, -0.1), 5))) == pytest.approx((-0.2, 0.0), abs=0.01)


def test_a_frame_of_an_unknown_scene_keeps_its_own() -> None:
    memory = remember([frame(A, RED, 1), frame(A, RED, 2), frame(B, BLUE, 3)])

    assert memory.drawn(frame(scene(3), (0.1, -0.1))) is None


def test_only_the_part_of_a_frame_that_is_known_is_drawn() -> None:
    memory = remember([frame(A, RED, 1), frame(A, RED, 2), frame(B, BLUE, 3)])
    half = A.copy()
    half[:, :, -3:] = scene(4)[:, :, -3:]  # someone has come in

    drawn = memory.drawn(frame(half, BLUE, 5))

    assert drawn is not None
    assert drawn[1, :, :32].mean() == pytest.approx(RED[1], abs=0.02)
    assert drawn[1, :, -8:].mean() == pytest.approx(BLUE[1], abs=0.02)


def test_a_panned_frame_takes_colours_from_where_things_were() -> None:
    across = np.linspace(0, 2 * np.pi, 24)
    rng = np.random.default_rng(5)
    wide = rng.normal(0, 1, (24, 1, 6)).repeat(4, axis=2) + rng.normal(0, 0.5, (24, SIZE[0], 24))
    wide = np.asarray(wide, np.float32)
    hues = np.stack([0.2 * np.cos(across), 0.2 * np.sin(across)]).astype(np.float16)

    def view(start: int) -> Frame:
        strip = hues[:, start : start + SIZE[1]].repeat(4, axis=1)[:, None, :].repeat(4 * SIZE[0], axis=1)
        return frame_with(wide[:, :, start : start + SIZE[1]], strip)

    memory = remember([view(0), view(1), frame(B, BLUE)])
    grey = view(2)
    drawn = memory.drawn(frame_with(wide[:, :, 2 : 2 + SIZE[1]], np.zeros((2, 32, 48), np.float16)))

    assert drawn is not None
    assert grey.chroma is not None
    known = slice(0, 4 * (SIZE[1] - 1))
    assert np.abs(drawn[..., known].astype(np.float32) - grey.chroma[..., known]).mean() < 0.03


def frame_with(features: NDArray[Any], chroma: NDArray[np.float16]) -> Frame:
    made = frame(features, RED)
    return Frame(made.luma, made.unit, guide=made.guide, chroma=chroma, confidence=made.confidence, features=made.features)


def test_chroma_stays_on_its_own_grid() -> None:
    drawn = remember([frame(A, RED), frame(B, BLUE)]).drawn(frame(A, RED, 1, grid=3))

    assert drawn is not None
    assert drawn.shape == (2, 24, 36)
    assert drawn.dtype == np.float16


def test_few_key_frames_of_a_scene_are_kept_and_speak_for_all() -> None:
    turns = [(0.2, 0.01 * number) for number in range(20)]
    memory = remember(frame(A, turn, number) for number, turn in enumerate(turns))

    assert len(memory) == 4
    drawn = [tint(memory.drawn(frame(A, turn, 50 + number))) for number, turn in enumerate(turns)]
    assert np.ptp(drawn, axis=0).max() < 0.03


def test_a_scene_that_stands_still_for_long_is_held_by_key_frames_that_are_all_alike() -> None:
    memory = remember([frame(A, RED, 1)] * 12)

    assert tint(memory.drawn(frame(A, (0.1, -0.1), 1))) == pytest.approx(RED, abs=0.01)


def test_colours_that_differ_are_averaged_without_turning_grey() -> None:
    memory = remember([frame(A, (0.0, 0.2), 1), frame(A, (0.2, 0.0), 2)])

    assert np.hypot(*tint(memory.drawn(frame(A, (0.1, 0.1), 3)))) == pytest.approx(0.2, abs=0.005)


def test_it_is_the_same_after_it_was_stored() -> None:
    memory = remember([frame(A, RED, 1), frame(A, BLUE, 2), frame(B, BLUE, 3)])
    stored = FilmMemory.from_bytes(memory.to_bytes())

    assert stored.to_bytes() == memory.to_bytes()
    seen = frame(A, BLUE, 4)
    one, other = stored.drawn(seen), memory.drawn(seen)
    assert one is not None
    assert other is not None
    assert_array_equal(one, other)


def test_a_damaged_one_is_refused() -> None:
    data = bytearray(remember([frame(A, RED)]).to_bytes())
    data[200] ^= 1

    with pytest.raises(MediaError, match="is damaged; run again, and it is made again"):
        FilmMemory.from_bytes(bytes(data))


def test_a_film_without_features_has_no_memory() -> None:
    memory = remember(make_frames(3))

    assert len(memory) == 0
    assert len(FilmMemory.from_bytes(memory.to_bytes())) == 0
    assert memory.drawn(frame(A, RED)) is None


def test_a_large_memory_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_BYTES == 64_000_000
    memory = remember(frame(scene(number), RED) for number in range(8))
    assert len(memory) == 8
    monkeypatch.setattr("bwpipe.memory.film_memory.MOST_BYTES", 40_000)

    assert 2 <= len(FilmMemory.from_bytes(memory.to_bytes())) <= 4


def test_a_reference_comes_before_the_guesses_where_it_matches_and_nowhere_else() -> None:
    memory = remember([frame(A, (0.1, 0.1), 1), frame(A, (0.1, 0.2), 2), frame(B, (-0.2, 0.0), 3)], [frame(A, BLUE, 4)])
    stored = FilmMemory.from_bytes(memory.to_bytes())

    assert tint(stored.drawn(frame(A, (0.1, -0.1), 5))) == pytest.approx(BLUE, abs=0.01)
    assert tint(stored.drawn(frame(B, (0.1, -0.1), 6))) == pytest.approx((-0.2, 0.0), abs=0.01)


def test_its_bytes_do_not_depend_on_the_number_of_threads() -> None:
    program = (
        "import hashlib, numpy as np\n"
        "from bwpipe.memory.film_memory import remember\n"
        "from tests.memory.test_film_memory import frame\n"
        "frames = [frame(np.random.default_rng(seed).normal(0, 1, (112, 20, 30)), (0.1, seed / 30)) for seed in range(3)]\n"
        "memory = remember([*frames, frames[0]])\n"
        "print(*(hashlib.sha256(data).hexdigest() for data in (memory.to_bytes(), memory.drawn(frames[1]).tobytes())))"
    )
    found = set()
    for threads in ("1", "2"):
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
        command, root = [sys.executable, "-c", program], Path(__file__).parents[2]
        environment = {**os.environ, **dict.fromkeys(names, threads)}
        found.add(subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True).stdout)

    assert len(found) == 1
    assert found.pop().strip()
