"""Networks by name, and self-describing checkpoints."""

import math
import os
import pickle
import resource
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bwpipe import UsageError
from bwpipe.core import plugins
from bwpipe.nn.checkpoint import Checkpoint, load, locate, save
from bwpipe.nn.network import Guess, Network, NetworkOptions, Quality, network, networks

plugins.load()


class Widths(NetworkOptions):
    width: int = 4
    """Number of hidden channels."""


@network("test-network")
class Small(Network):
    """Two layers."""

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"
    Options = Widths

    def __init__(self, options: Widths) -> None:
        super().__init__(options)
        self.layers = nn.Sequential(nn.Conv2d(1, options.width, 3, padding=1), nn.Tanh(), nn.Conv2d(options.width, 2, 1))
        self.register_buffer("steps", torch.tensor(7))

    def forward(self, luma: Tensor) -> Tensor:
        chroma: Tensor = self.layers(luma)
        return chroma

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        return height, width

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        return Guess(output.clamp(-0.5, 0.5))


@network("test-looks")
class Looks(Small):
    """Has a buffer whose size depends on values."""

    def __init__(self, options: Widths) -> None:
        line = torch.arange(9)
        even = line[line % 2 == 0]
        super().__init__(options)
        self.register_buffer("even", even)


@pytest.fixture
def small() -> Small:
    torch.manual_seed(1)
    return Small(Widths(width=6))


DESCRIPTION = Checkpoint(
    network="test-network",
    options={"width": 6},
    version="0.1.0",
    licence="CC0",
    training={"figures": {"mse": 0.25}, "steps": 3},
)


def test_a_checkpoint_rebuilds_its_network_and_keeps_its_description(small: Small, tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", small, DESCRIPTION)

    net, description = load(tmp_path / "a.safetensors")

    luma = torch.rand(2, 1, 8, 8)
    assert description == DESCRIPTION
    assert torch.equal(net(luma), small(luma))
    assert not net.training
    assert not any(weights.requires_grad for weights in net.parameters())


def test_a_float16_checkpoint_rounds_the_weights(small: Small, tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", small, DESCRIPTION, half=True)

    net, _ = load(tmp_path / "a.safetensors")

    for loaded, weights in zip(net.parameters(), small.parameters(), strict=True):
        assert loaded.dtype is torch.float32
        assert torch.equal(loaded, weights.half().float())
    assert net.state_dict()["steps"] == 7


def test_the_same_weights_give_the_same_file(small: Small, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / name, small, DESCRIPTION)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_no_code_in_a_file_is_executed(tmp_path: Path) -> None:
    file = tmp_path / "trap.safetensors"
    file.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))

    with pytest.raises(UsageError, match="is no checkpoint of bwpipe, but a file saved by PyTorch; "):
        load(file)

    assert not (tmp_path / "sprung").exists()


def test_files_of_other_programs_are_named_for_what_they_are(tmp_path: Path) -> None:
    weights = {"a": torch.zeros(3)}
    torch.save(weights, tmp_path / "plain.pth")
    torch.save({"state_dict": weights, "pytorch-lightning_version": "2.5"}, tmp_path / "lightning.ckpt")
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(100))
    (tmp_path / "weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "empty.bin").touch()

    for name, kind in {
        "plain.pth": "a file saved by PyTorch",
        "lightning.ckpt": "a file saved by PyTorch",
        "old.pth": "a file saved by PyTorch",
        "model.onnx": "an ONNX model",
        "weights.h5": "an HDF5 file, such as Keras writes",
        "empty.bin": "a file of another kind",
    }.items():
        with pytest.raises(UsageError) as refusal:
            load(tmp_path / name)
        assert str(refusal.value) == (
            f"{tmp_path / name}: is no checkpoint of bwpipe, but {kind}; give a .safetensors file from `bwpipe train` or "
            "`bwpipe import`, which imports weights of others, or a network's name"
        )


def test_foreign_weights_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(3)}, file)

    with pytest.raises(UsageError, match=r"is no checkpoint of bwpipe: it does not name its network; .*`bwpipe train`"):
        load(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "test-netwrok"}, "did you mean 'test-network'"),
        ({"options": {"width": 5}}, "for layers.0.bias it holds .6,., not .5,.; restore"),
        ({"options": {"depth": 5}}, "depth"),
    ],
)
def test_a_checkpoint_that_does_not_fit_its_network_is_refused(
    small: Small, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    file = tmp_path / "a.safetensors"
    save(file, small, DESCRIPTION.model_copy(update=change))

    with pytest.raises(UsageError, match=message) as refusal:
        load(file)

    assert str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("test-network", {"width": 2**34}),
        ("test-network", {"width": 10**30}),
        ("test-looks", {"width": 2**26}),
        ("unet", {"widths": [40_000, 40_000, 40_000]}),
        ("unet", {"widths": [40_000, 40_000, 10**30]}),
    ],
)
def test_a_tiny_checkpoint_that_names_a_huge_network_allocates_nothing(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    file = tmp_path / "huge.safetensors"
    description = Checkpoint(network=name, options=options, version="0.1.0")
    save_file({"a": torch.zeros(3)}, file, {"bwpipe": description.model_dump_json()})
    load(locate("unet"))  # imports what `unet` needs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(UsageError, match="can't be used as a checkpoint: ") as refusal:
        load(file)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    assert "\n" not in str(refusal.value)


def test_a_description_of_too_many_brackets_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors", {"bwpipe": "[" * 100_000})

    with pytest.raises(UsageError, match="can't be used as a checkpoint: its brackets are nested too deeply"):
        load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(small: Small, tmp_path: Path, value: float) -> None:
    small.get_parameter("layers.2.bias").data[1] = value
    save(tmp_path / "a.safetensors", small, DESCRIPTION)

    with pytest.raises(UsageError) as refusal:
        load(tmp_path / "a.safetensors")

    assert str(refusal.value) == (
        f"{tmp_path / 'a.safetensors'}: can't be used as a checkpoint: its weight layers.2.bias has values that are not finite "
        "numbers; restore the original, or train again"
    )


def test_a_network_that_looks_at_values_while_it_is_built_can_be_loaded(tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", Looks(Widths()), Checkpoint(network="test-looks", version="0.1.0"))

    assert load(tmp_path / "a.safetensors")[0].get_buffer("even").tolist() == [0, 2, 4, 6, 8]


def test_a_checkpoint_cut_short_is_refused(small: Small, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save(file, small, DESCRIPTION)
    file.write_bytes(file.read_bytes()[:-8])

    with pytest.raises(UsageError, match="can't be used as a checkpoint"):
        load(file)


def test_a_missing_checkpoint_is_reported() -> None:
    with pytest.raises(UsageError, match="there is no checkpoint"):
        locate("nowhere/a.safetensors")


def test_an_unknown_name_is_reported_with_the_closest_one() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'autoencoder'.*path of a checkpoint"):
        locate("autoencodr")


def test_a_path_is_used_unchanged(small: Small, tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", small, DESCRIPTION)

    assert locate(str(tmp_path / "a.safetensors")) == tmp_path / "a.safetensors"


def test_two_networks_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="'autoencoder' is in both"):
        network("autoencoder")(Small)

    assert networks["autoencoder"] is not Small
