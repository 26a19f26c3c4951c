"""Networks computed by OpenVINO: as torch computes them, and the same bytes however they are asked for."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from torch import Tensor

from bwpipe.core import plugins
from bwpipe.errors import RunAborted, UsageError
from bwpipe.nn.checkpoint import Checkpoint, load, locate, save
from bwpipe.nn.network import Guess, InputSizes, Network, network, networks
from bwpipe.nn.runtime.base import Prediction
from bwpipe.nn.runtime.choose import open_runtime
from bwpipe.nn.runtime.openvino import OpenVinoRuntime
from bwpipe.nn.runtime.trace import trace
from tests.nn.runtime.test_graphs import written as small_network

SIZES = {"autoencoder": ((150, 150),), "unet": ((64, 64), (32, 96))}
"""Which the networks take, among others."""
SHIPPED = ("autoencoder", "unet")
NETWORKS = Path(__file__).parents[2] / "support" / "networks"


def images(count: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Smooth images with some grain, (count, h, w) in 0..1."""
    random = np.random.default_rng(0)
    coarse = random.random((count, 4, 6), np.float32)
    smooth = np.stack([cv2.resize(each, size[::-1], interpolation=cv2.INTER_CUBIC) for each in coarse])
    return np.asarray(np.clip(smooth + random.normal(0, 0.03, smooth.shape), 0, 1), np.float32)


def opened(model: str | Path, **options: Any) -> Any:
    return open_runtime(locate(str(model)), "openvino", ["cpu"], "float32", **options)


def assert_same(one: Prediction, other: Prediction) -> None:
    for name in ("chroma", "confidence", "features"):
        assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("name", SHIPPED)
def test_both_run_times_predict_the_same_colours(name: str) -> None:
    compiled = opened(name)
    exact = open_runtime(locate(name), "torch", ["cpu"], "float32")

    for size in SIZES[name]:
        for vividness in (None, 0.9):
            luma = images(2, size)
            other = exact.predict(luma, vividness)
            for many in (False, True):
                one = compiled.predict(luma, vividness, many=many)
                assert 255 * np.abs(one.chroma - other.chroma).mean() < 0.2
                for plane in ("confidence", "features"):
                    assert (getattr(one, plane) is None) == (getattr(other, plane) is None)
                if other.confidence is not None:
                    assert np.abs(one.confidence - other.confidence).mean() < 0.01
                if other.features is not None:
                    assert np.abs(one.features - other.features).mean() < 0.01 * np.abs(other.features).mean()
    exact.close()


@pytest.mark.parametrize("many", [False, True])
def test_a_prediction_depends_on_nothing_but_the_image(many: bool) -> None:
    luma = images(3, (32, 64))
    alone = opened("unet", threads=1)
    expected = [alone.predict(luma[[number]], many=many) for number in range(3)]

    several = opened("unet", threads=2)
    several.predict(images(1, (64, 32)), many=many)  # another size first
    batch = several.predict(luma[::-1], many=many)
    with ThreadPoolExecutor(3) as pool:
        each: Callable[[int], Prediction] = lambda number: several.predict(luma[[number]], many=many)  # noqa: E731
        parallel = list(pool.map(each, [0, 1, 2, 2, 1, 0]))

    for number, prediction in enumerate(expected):
        assert_array_equal(batch.chroma[2 - number], prediction.chroma[0])
        assert_array_equal(batch.confidence[2 - number], prediction.confidence[0])
        assert_same(parallel[number], prediction)
        assert_same(parallel[5 - number], prediction)


FIRST_AT_A_TIME = """
import sys, threading
from bwpipe.nn.runtime.openvino import import_openvino
sys.setswitchinterval(1e-6)
openvino = import_openvino()
together = threading.Barrier(8)
def convert():
    together.wait()
    openvino.Type.f32.to_dtype()
threads = [threading.Thread(target=convert) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_the_first_predictions_of_several_threads_do_not_wait_for_each_other() -> None:
    for _ in range(3):  # each converts types: without the care that is taken, four of five such processes hung
        subprocess.run([sys.executable, "-c", FIRST_AT_A_TIME], check=True, timeout=60)


def test_more_sizes_than_are_kept_compiled_give_the_same_bytes(tmp_path: Path) -> None:
    small = opened(small_network(tmp_path / "small.safetensors"))
    sizes = [(32, 32 * number) for number in range(1, 8)]

    first = [small.predict(images(1, size), many=True) for size in sizes]
    again = [small.predict(images(1, size), many=True) for size in sizes]

    for one, other in zip(first, again, strict=True):
        assert_same(one, other)


def test_hints_reach_the_network(tmp_path: Path) -> None:
    plugins.load([NETWORKS])
    told = networks["test-told"]
    path = tmp_path / "told.safetensors"
    save(path, told(told.Options()), Checkpoint(network="test-told", version="0"))
    compiled = opened(path)
    hints = np.zeros((1, 3, 96, 128), np.float32)
    hints[0, :, 40:80, 40:80] = np.array([0.2, -0.1, 1.0], np.float32)[:, None, None]

    assert compiled.takes_hints
    for given, expected in ((None, (0, 0)), (hints, (0.2, -0.1))):
        found = compiled.predict(images(1, (96, 128)), hints=given).chroma
        assert found[0].mean(axis=(1, 2)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow  # it makes a graph of a large network; the test before shows the same with a small one
def test_hints_reach_unet_and_none_is_as_without_the_part(tmp_path: Path) -> None:
    torch.manual_seed(5)
    unet: Any = networks["unet"]
    network = unet(unet.Options(hints=True, widths=(24, 16, 8)))
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if name.startswith("hints."):
                weights.normal_(std=0.3)
        network.head.weight *= 30  # so that its colours are not all but grey
    path = tmp_path / "told.safetensors"
    save(path, network, Checkpoint(network="unet", options=network.options.model_dump(), version="0"))
    compiled = opened(str(path))
    exact = open_runtime(path, "torch", ["cpu"], "float32")
    luma = images(1, (64, 64))
    hints = np.zeros((1, 3, 64, 64), np.float32)
    hints[0, :, 16:48, 16:48] = np.array([0.2, -0.1, 1.0], np.float32)[:, None, None]

    assert compiled.takes_hints
    for given in (None, hints):
        one, other = compiled.predict(luma, hints=given), exact.predict(luma, hints=given)
        assert 255 * np.abs(one.chroma - other.chroma).mean() < 0.2
    assert np.abs(compiled.predict(luma, hints=hints).chroma - compiled.predict(luma).chroma).max() > 1e-3
    exact.close()


@network("test-openvino")
class Unbounded(Network):
    """A network whose colours nothing keeps within bounds."""

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"
    sizes: ClassVar[InputSizes] = InputSizes.square(16)

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.gain = torch.nn.Parameter(torch.full((1, 2, 1, 1), 0.1))

    def forward(self, luma: Tensor) -> Tensor:
        return self.gain * luma

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        return Guess(output)


def test_colours_that_are_not_finite_are_refused() -> None:
    graph = trace(Unbounded(Unbounded.Options()).eval(), {}, "")
    runtime = OpenVinoRuntime(graph, lambda: {"gain": np.full((1, 2, 1, 1), np.inf, np.float32)})

    with pytest.raises(
        RunAborted, match="'test-openvino' predicted colours that are not finite numbers; use another checkpoint"
    ):
        runtime.predict(images(1, (16, 16)))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    net, checkpoint = load(locate("autoencoder"))
    next(net.parameters()).data[0] = torch.nan
    save(tmp_path / "bad.safetensors", net, checkpoint)

    with pytest.raises(UsageError, match=r"bad\.safetensors: can't be used as a checkpoint: its weight down1\.\w+ has values"):
        opened(tmp_path / "bad.safetensors")
