"""Networks on a GPU, as far as a CPU can tell: what is kept, what is captured, and what a network must not do."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import Tensor

from bwpipe.core import plugins
from bwpipe.errors import RunAborted
from bwpipe.nn.device import prepare
from bwpipe.nn.inference import infer, predict
from bwpipe.nn.network import Guess, Network, networks
from bwpipe.nn.runtime.cuda_graphs import GRAPHS, CannotCapture, StaysOnDevice
from bwpipe.nn.runtime.gpu import GpuNetwork
from tests.nn.runtime.test_openvino import images
from tests.training.test_train import NETWORKS

plugins.load([NETWORKS])
CPU = torch.device("cpu")
NAMES = ("chroma", "confidence", "features")


class Recorder:
    """Captures a call on a CPU: a replay computes it again into the tensors of the first time."""

    def __init__(self, error: Exception | None = None) -> None:
        self.captured, self.error = 0, error

    def __call__(self, function: Callable[[], Guess]) -> tuple[Callable[[], None], Guess]:
        if self.error:
            raise self.error
        self.captured += 1
        with StaysOnDevice():
            kept = function()

        def replay() -> None:
            again = function()
            for name in NAMES:
                if (tensor := getattr(kept, name)) is not None:
                    tensor.copy_(getattr(again, name))

        return replay, kept


def made(name: str, capture: Recorder, warn: Callable[[str], None] = lambda text: None) -> tuple[GpuNetwork, Network]:
    torch.manual_seed(0)
    network = prepare(networks[name](networks[name].Options()).eval(), CPU, torch.float32)
    return GpuNetwork(network, CPU, warn, capture), network


def assert_predicts(network: GpuNetwork, plain: Network, luma: Any, vividness: float | None = None, hints: Any = None) -> None:
    wanted = predict(plain, luma, vividness, hints)
    for many in (False, True, True):
        found = network.predict(luma, vividness, hints, many=many)
        for name in NAMES:
            assert (getattr(found, name) is None) == (getattr(wanted, name) is None)
            if getattr(wanted, name) is not None:
                assert_array_equal(getattr(found, name), getattr(wanted, name).numpy())


def test_predictions_are_the_same_with_and_without_a_capture_for_any_size_vividness_and_hints() -> None:
    capture = Recorder()
    network, plain = made("test-told", capture)
    hints = np.random.default_rng(0).random((2, 3, 96, 128), np.float32) - np.float32(0.5)

    for luma in (images(2, (96, 128)), images(1, (96, 128)), images(2, (64, 64))):
        assert_predicts(network, plain, luma)
    assert_predicts(network, plain, images(2, (96, 128)), 0.3)
    assert_predicts(network, plain, images(2, (96, 128)), 0.3, hints)
    assert_predicts(network, plain, images(2, (96, 128)), 0.3, -hints)
    assert capture.captured == 5  # the last one differs in its numbers only


def test_one_image_is_not_captured_and_of_many_sizes_the_latest_are_kept() -> None:
    capture = Recorder()
    network, plain = made("test-chroma", capture)
    network.predict(images(1, (16, 16)))
    assert capture.captured == 0

    sizes = [(16, 16 + 4 * number) for number in range(GRAPHS + 1)]
    for size in sizes:
        assert_predicts(network, plain, images(1, size))
    assert capture.captured == GRAPHS + 1
    network.predict(images(1, sizes[1]), many=True)
    assert capture.captured == GRAPHS + 1
    assert_predicts(network, plain, images(1, sizes[0]))  # this one had to go
    assert capture.captured == GRAPHS + 2
    network.predict(images(1, sizes[1]), many=True)  # used after the others, so it stayed
    assert capture.captured == GRAPHS + 2


def test_threads_that_predict_at_a_time_get_the_colours_of_their_own_images() -> None:
    network, plain = made("test-chroma", Recorder())
    batches = [images(2, (16, 16)) * np.float32(0.1 * number) for number in range(10)]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda luma: network.predict(luma, many=True), batches * 5))

    for one, luma in zip(found, batches * 5, strict=True):
        assert_array_equal(one.chroma, predict(plain, luma).chroma.numpy())


def test_a_network_that_cannot_be_captured_is_computed_without_and_said_once() -> None:
    warnings: list[str] = []
    network, plain = made("test-chroma", Recorder(CannotCapture("it waits")), warnings.append)

    for _ in range(2):
        assert_predicts(network, plain, images(2, (16, 16)))

    assert warnings == [
        "the network 'test-chroma' can't be captured as a CUDA graph (it waits), so it is computed without, slower"
    ]


def test_out_of_memory_in_a_capture_is_said_as_such_and_later_captures_go_on() -> None:
    capture = Recorder(torch.OutOfMemoryError("CUDA out of memory"))
    network, plain = made("test-chroma", capture)

    with pytest.raises(MemoryError):
        network.predict(images(4, (16, 16)), many=True)

    capture.error = None
    assert_predicts(network, plain, images(2, (16, 16)))
    assert capture.captured == 1


def test_a_failure_of_the_device_ends_the_run_with_a_sentence() -> None:
    network, _ = made("test-chroma", Recorder(ValueError("?")))
    network._device = torch.device("meta")  # no CPU, and nothing can be copied from it

    with pytest.raises(RunAborted, match=r"^meta failed: .*; run again, or choose another `device`$"):
        network.predict(images(1, (16, 16)))


@pytest.mark.parametrize("name", ["autoencoder", "unet", "eccv16", "siggraph17", "ddcolor"])
def test_networks_that_ship_leave_all_to_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "ddcolor":
        pytest.importorskip("spandrel_extra_arches")
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())  # it knows no tensors without memory
    network = networks[name](networks[name].Options()).eval().to("meta")
    height, width = network.input_size(300, 400)

    with torch.inference_mode(), StaysOnDevice():
        guess = infer(network, torch.empty(2, 1, height, width, device="meta"), 0.5)

    assert guess.chroma.device.type == "meta"
    assert guess.chroma.dtype == torch.float32


WAITING: dict[str, Callable[[Tensor], Any]] = {
    "a number": lambda x: x.sum().item(),
    "a question": lambda x: bool((x > 0).all()),
    "places": lambda x: x.nonzero(),
    "a mask": lambda x: x[x > 0],
    "constants": lambda x: x * torch.tensor([1.0, 2.0]).to(x.device),
    "a copy": lambda x: x.copy_(torch.ones(2)),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_makes_the_processor_wait_for_the_device_is_found(name: str) -> None:
    with torch.inference_mode(), StaysOnDevice(), pytest.raises(CannotCapture, match=r"needs a result|copies from cpu to meta"):
        WAITING[name](torch.ones(2, device="meta"))


def test_what_a_device_does_by_itself_may_be_captured() -> None:
    with torch.inference_mode(), StaysOnDevice():
        x = torch.ones(4, device="meta")
        numbers = torch.arange(3, device="meta")
        assert (2 * x[numbers].half() + torch.zeros(3, device="meta")).shape == (3,)
        assert x.clone().copy_(x).shape == (4,)
