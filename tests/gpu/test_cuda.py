"""Colouring on a real GPU: the colours of a CPU, the same bytes each time, and bounded memory. Skipped where there is none."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

import bwpipe
from bwpipe.core import plugins
from bwpipe.nn.checkpoint import load, locate
from bwpipe.nn.device import find_device, prepare
from bwpipe.nn.inference import predict
from bwpipe.nn.network import Guess, Network
from bwpipe.nn.runtime.base import Planes, Prediction
from bwpipe.nn.runtime.choose import open_runtime
from bwpipe.nn.runtime.cuda_graphs import GRAPHS
from bwpipe.nn.runtime.gpu import GpuNetwork
from bwpipe.nn.runtime.pytorch import TorchRuntime
from tests.support.made_films import MKV, make_film
from tests.support.made_photos import write_photos
from tests.support.tripping import contents

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch computes on by CUDA")

CUDA = "cuda"


TRIP = '''
"""A stage that fails the film at a frame, the first time it comes."""

from bwpipe import Frame, Map, MediaError, NoEffect, stage

tripped = set()


@stage("test-gpu-trip")
class Trip(Map):
    """Fails the film at a frame."""

    at: NoEffect[int] = -1

    def apply(self, frame: Frame) -> Frame:
        if frame.index == self.at and not frame.context and self.at not in tripped:
            tripped.add(self.at)
            raise MediaError("the run ends here")
        return frame
'''


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    plugins.load()


@pytest.fixture
def opened() -> Iterator[Any]:
    """Opens networks for the GPU, and releases them."""
    made: list[Any] = []

    def open_one(name: str, precision: Any = "auto", **options: Any) -> Any:
        made.append(open_runtime(locate(name), "torch", [CUDA], precision, **options))
        return made[-1]

    yield open_one
    for each in made:
        each.close()


def images(count: int, size: tuple[int, int]) -> Planes:
    """Smooth images, (count, h, w) in 0..1."""
    coarse = np.random.default_rng(0).random((count, 4, 6), np.float32)
    smooth = np.stack([cv2.resize(each, size[::-1], interpolation=cv2.INTER_CUBIC) for each in coarse])
    return np.asarray(smooth.clip(0, 1), np.float32)


def apart(one: Planes, other: Planes) -> tuple[float, float]:
    """The mean and the largest difference, in code values."""
    difference = 255 * np.abs(one - other)
    return float(difference.mean()), float(difference.max())


SIZES = {"autoencoder": (150, 150), "unet": (256, 352)}


@pytest.mark.parametrize(("precision", "mean", "largest"), [("auto", 0.5, 8), ("float32", 0.02, 0.5), ("bfloat16", 4, 60)])
@pytest.mark.parametrize("name", SIZES)
def test_the_colours_are_those_of_a_cpu_within_bounds(
    opened: Any, name: str, precision: str, mean: float, largest: float
) -> None:
    luma = images(2, SIZES[name])
    exact = open_runtime(locate(name), "torch", ["cpu"], "float32").predict(luma)
    runtime = opened(name, precision)

    for many in (False, True):
        found = runtime.predict(luma, many=many)

        differences = apart(found.chroma, exact.chroma)
        assert differences[0] < mean, differences
        assert differences[1] < largest, differences
    assert runtime.resolved["precision"] == ("float16" if precision == "auto" else precision)


@pytest.mark.parametrize("name", SIZES)
def test_a_graph_predicts_the_same_as_without_and_the_same_bytes_each_time(opened: Any, name: str) -> None:
    luma = images(4, SIZES[name])
    copy = prepare(load(locate(name))[0], find_device(CUDA), torch.float16)
    plain = predict(copy, luma)
    runtime, warnings = opened(name), list[str]()
    network = GpuNetwork(copy, find_device(CUDA), warnings.append)

    pinned = network.predict(luma)
    assert apart(pinned.chroma, plain.chroma.numpy())[1] == 0
    first = network.predict(luma, many=True)
    assert apart(first.chroma, plain.chroma.numpy())[1] < 0.1
    network.predict(luma[::-1], many=True)
    for again in (network.predict(luma, many=True), runtime.predict(luma, many=True)):
        assert_same(again, first)
    assert apart(network.predict(luma, 0.9, many=True).chroma, predict(copy, luma, 0.9).chroma.numpy())[1] < 0.1
    assert warnings == []


def assert_same(one: Prediction, other: Prediction) -> None:
    for name in ("chroma", "confidence", "features"):
        assert_array_equal(getattr(one, name), getattr(other, name))


def test_threads_that_predict_at_a_time_get_the_colours_of_their_own_images(opened: Any) -> None:
    runtime = opened("unet")
    batches = [images(2, size) * np.float32(0.2 * number) for number in range(1, 5) for size in ((96, 128), (128, 96))]
    alone = [runtime.predict(each, many=True) for each in batches]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda each: runtime.predict(each, many=True), batches * 6))

    for one, other in zip(found, alone * 6, strict=True):
        assert_same(one, other)


class _Waiting(Network):
    """Asks the GPU for a number before it goes on."""

    registered = "test-gpu-waiting"
    produces = "chroma"

    def guess(self, luma: torch.Tensor, vividness: float | None = None, hints: torch.Tensor | None = None) -> Guess:
        with torch.no_grad():
            chroma = luma.expand(-1, 2, -1, -1) * self.weight / 2
            return Guess(chroma if float(luma.max()) > 0.5 else -chroma)

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.weight = torch.nn.Parameter(torch.ones(()))

    def decode(self, output: torch.Tensor, vividness: float | None = None) -> Guess:
        return Guess(output)


class _Synchronising(_Waiting):
    """The same where no operation shows it before the capture."""

    def guess(self, luma: torch.Tensor, vividness: float | None = None, hints: torch.Tensor | None = None) -> Guess:
        torch.cuda.synchronize()
        return Guess(luma.expand(-1, 2, -1, -1) * self.weight.detach() / 2)


@pytest.mark.parametrize("kind", [_Waiting, _Synchronising])
def test_a_network_that_cannot_be_captured_is_computed_without_and_said_once(opened: Any, kind: type[Network]) -> None:
    warnings: list[str] = []
    runtime = TorchRuntime(kind(kind.Options()).eval(), [find_device(CUDA)], "float32", warnings.append)
    luma = images(2, (64, 64)) * np.float32(0.9)

    for _ in range(3):
        found = runtime.predict(luma, many=True)
        assert apart(found.chroma[:, 0], luma / np.float32(2))[1] < 0.01
    (warning,) = warnings
    assert warning.startswith(f"the network {kind.registered!r} can't be captured as a CUDA graph (")

    other = opened("unet")  # a capture that fails leaves nothing behind that others would feel
    large = images(1, (96, 96))
    assert_same(other.predict(large, many=True), other.predict(large, many=True))
    runtime.close()


def test_memory_stays_bounded_over_many_sizes(opened: Any) -> None:
    runtime = opened("unet")
    sizes = [(96 + 32 * down, 128 + 32 * across) for down in range(4) for across in range(5)]
    assert len(sizes) > 2 * GRAPHS

    def reserved() -> int:
        for size in sizes:
            for many in (True, False):
                runtime.predict(images(2, size), many=many)
        return torch.cuda.memory_reserved()

    first = reserved()
    for _ in range(2):
        assert reserved() <= 1.1 * first
    assert first < 2 << 30


def graph(inputs: Path, out: Path, trip: int = -1, **colorize: Any) -> dict[str, Any]:
    chain: list[dict[str, Any]] = [
        {"use": "read", "path": str(inputs)},
        {"use": "grayscale", "colour": "recolour"},
        {"use": "shots"},
        {"use": "test-gpu-trip", "at": trip},
        {"use": "colorize", "device": CUDA, "runtime": "torch", "batch": 4, "every": 1, **colorize},
        {"use": "steady"},
        {"use": "write", "path": str(out), "codec": "ffv1", "verify": True},
    ]
    return {"plugins": [str(inputs.parent / "trip")], "segment": 20, "stages": chain}


def test_a_folder_with_pictures_and_a_film_keeps_its_luma_and_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 3)
    make_film(tmp_path / "in" / "film.mkv", replace(MKV, size=(64, 48), times=range(0, 40 * 60, 40)))

    (tmp_path / "trip").mkdir()
    (tmp_path / "trip" / "trip.py").write_text(TRIP)

    whole = bwpipe.run(graph(tmp_path / "in", tmp_path / "whole", workers=4))
    broken = bwpipe.run(graph(tmp_path / "in", tmp_path / "resumed", trip=45))
    resumed = bwpipe.run(graph(tmp_path / "in", tmp_path / "resumed", trip=45))

    assert (whole.done, whole.failed) == (4, {})  # `verify` fails a file whose luma differs
    assert [path.name for path in broken.failed] == ["film.mkv"]
    assert (resumed.done, resumed.failed) == (1, {})
    expected = contents(tmp_path / "whole")
    assert len(expected) == 4
    assert contents(tmp_path / "resumed") == expected
    assert not any("CUDA graph" in remark for result in (whole, resumed) for remark in result.remarks)
