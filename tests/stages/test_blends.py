"""Blends of networks in the `colorize` stage."""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from torch import Tensor, nn

from bwpipe import Frame, UsageError, run
from bwpipe.core.frame import Chroma
from bwpipe.core.stage import stages
from bwpipe.nn.checkpoint import Checkpoint, save
from bwpipe.nn.network import Guess, Network, Quality, network, networks
from bwpipe.testing import make_frames, run_stage
from bwpipe.tools.info import file_info


@network("test-flat")
class Flat(Network):
    """Predicts one chroma everywhere, on a grid of its own."""

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.chroma = nn.Parameter(torch.zeros(2))

    def forward(self, luma: Tensor) -> Tensor:
        return self.chroma.view(1, 2, 1, 1) + 0 * luma

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        return 8, 12

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        return Guess(output)


@network("test-flat-fine")
class FlatFine(Flat):
    """The same on a finer grid."""

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        return 16, 24


def written(folder: Path, name: str, blue: float) -> str:
    net = networks[name](networks[name].Options())
    net.chroma.data = torch.tensor([blue, 0.0])
    save(folder / f"{name}.safetensors", net, Checkpoint(network=name, version="0", licence=f"of {name}"))
    return str(folder / f"{name}.safetensors")


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    return [written(tmp_path, "test-flat", 0.1), written(tmp_path, "test-flat-fine", 0.3)]


COMPUTED: dict[str, Any] = {"runtime": "torch", "device": "cpu", "precision": "float32"}


def chroma(**options: Any) -> Chroma:
    (frame,) = run_stage("colorize", make_frames(1, height=48, width=72), **COMPUTED, **options)
    assert isinstance(frame, Frame)
    assert frame.chroma is not None
    return frame.chroma


@pytest.mark.parametrize(("shares", "blue"), [(None, 0.2), ([3.0, 1.0], 0.15)])
def test_a_blend_is_the_mean_of_its_networks_on_the_finest_grid(
    pair: list[str], shares: list[float] | None, blue: float
) -> None:
    found = chroma(model=pair, shares=shares)

    assert found.shape == (2, 16, 24)
    assert_allclose(found[0], blue, atol=1e-3)
    assert_allclose(found[1], 0, atol=1e-3)


def test_a_blend_of_one_network_equals_the_network(pair: list[str]) -> None:
    assert_allclose(chroma(model=pair[:1]), chroma(model=pair[0]))


def test_the_number_of_shares_must_be_that_of_the_networks(pair: list[str]) -> None:
    with pytest.raises(UsageError, match=r"colorize\.shares: there are 1 for 2 networks; give one for each"):
        chroma(model=pair, shares=[1.0])


def test_the_recipe_names_all_weights_and_how_they_are_blended(pair: list[str]) -> None:
    def recipe(**options: Any) -> dict[str, Any]:
        return stages["colorize"](**COMPUTED, **options).recipe()

    alone, blend = recipe(model=pair[0]), recipe(model=pair)

    assert "+" not in alone["weights"]
    assert {"shares", "blend"}.isdisjoint(alone)
    assert blend["weights"].startswith(f"{alone['weights']}+")
    assert recipe(model=pair, shares=[1.0, 2.0], blend="confidence").items() >= {"blend": "confidence"}.items()


def test_a_picture_says_which_networks_coloured_it(pair: list[str], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))).save(tmp_path / "in" / "a.png")

    run(
        {
            "stages": [
                {"use": "read", "path": str(tmp_path / "in")},
                {"use": "grayscale"},
                {"use": "colorize", "model": pair, **COMPUTED},
                {"use": "write", "path": str(tmp_path / "out")},
            ]
        }
    )

    assert "test-flat, test-flat-fine" in json.dumps(file_info(tmp_path / "out" / "a.png"))
