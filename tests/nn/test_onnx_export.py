"""A network as an ONNX model: what ONNX Runtime computes of it is what torch computes."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from bwpipe.cli.main import app
from bwpipe.errors import UsageError
from bwpipe.nn.checkpoint import Checkpoint, load, locate, save
from bwpipe.nn.network import Guess, InputSizes, Network, NetworkOptions, network, networks
from bwpipe.nn.onnx_export import export_onnx


class Pooling(Network):
    """Predicts chroma from hints and from poolings whose sizes follow from the input's."""

    produces = "chroma"
    sizes = InputSizes({"fast": 64, "normal": 64, "best": 64}, stride=2, max_aspect=4)

    def __init__(self, options: NetworkOptions) -> None:
        super().__init__(options)
        self.norm = torch.nn.BatchNorm2d(4)
        self.mix = torch.nn.Conv2d(4, 2, 1)

    @property
    def takes_hints(self) -> bool:
        return True

    def forward(self, luma: Tensor, hints: Tensor | None = None) -> Tensor:
        known = torch.zeros_like(luma).expand(-1, 3, -1, -1) if hints is None else hints
        means = F.avg_pool2d(torch.cat([luma, known], dim=1), 16, ceil_mode=True)
        height, width = means.shape[-2:]
        mixed: Tensor = torch.tanh(self.mix(self.norm(means))) / 4
        return mixed * F.adaptive_avg_pool2d(luma, (height, width))

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        factor = self.default_vividness if vividness is None else vividness
        return Guess(output * (0.5 + factor))


class Steady(Pooling):
    """It ignores the vividness."""

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        return Guess(output)


class Branching(Pooling):
    """What it does depends on the values of its input, which a graph can't hold."""

    def forward(self, luma: Tensor, hints: Tensor | None = None) -> Tensor:
        output = super().forward(luma, hints)
        return -output if float(luma.mean()) > 0.5 else output


def checkpoint(path: Path, cls: type[Network], monkeypatch: pytest.MonkeyPatch) -> Path:
    name = f"test-{cls.__name__.lower()}"
    monkeypatch.setattr(networks, "_classes", dict(networks._classes))
    network(name)(cls)
    torch.manual_seed(0)
    save(path, cls(NetworkOptions()), Checkpoint(network=name, version="0.2.0", licence="CC0"))
    return path


def test_a_shipped_network_is_exported_by_the_command(tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"

    result = CliRunner().invoke(app, ["export", "autoencoder", "-o", str(target)])

    assert result.exit_code == 0, result.output
    model = onnx.load(target)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    about = json.loads(model.metadata_props[0].value)
    assert about["network"] == "autoencoder"
    assert about["licence"].startswith("MIT")
    assert about["sizes"]["short_sides"]["normal"] == load(locate("autoencoder"))[0].input_size(480, 720)[0]
    session = onnxruntime.InferenceSession(target)
    luma = np.random.default_rng(0).random((1, 1, 150, 150), np.float32)
    (found,) = session.run(["chroma"], {"luma": luma, "vividness": np.array(0, np.float32)})
    expected = load(locate("autoencoder"))[0].guess(torch.from_numpy(luma)).chroma.numpy()
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("size", [(64, 96), (50, 33), (31, 130)])
def test_hints_vividness_and_poolings_are_the_same_at_any_size(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint(tmp_path / "net.safetensors", Pooling, monkeypatch)

    session = onnxruntime.InferenceSession(export_onnx(path))

    random = np.random.default_rng(1)
    luma, hints = random.random((1, 1, *size), np.float32), random.random((1, 3, *size), np.float32)
    (found,) = session.run(["chroma"], {"luma": luma, "vividness": np.array(0.7, np.float32), "hints": hints})
    expected = load(path)[0].guess(torch.from_numpy(luma), 0.7, torch.from_numpy(hints)).chroma.numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5


def test_a_network_that_ignores_the_vividness_is_exported_without_that_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = export_onnx(checkpoint(tmp_path / "net.safetensors", Steady, monkeypatch))

    assert [each.name for each in onnxruntime.InferenceSession(model).get_inputs()] == ["luma", "hints"]


def test_a_network_that_a_model_cannot_hold_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint(tmp_path / "net.safetensors", Branching, monkeypatch)

    result = CliRunner().invoke(app, ["export", str(path), "-o", str(tmp_path / "net.onnx")])

    assert result.exit_code == 2
    assert "the network 'test-branching' can't be written as ONNX (at " in result.output
    assert not (tmp_path / "net.onnx").exists()


def test_missing_packages_are_named_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bwpipe.nn.onnx_export.find_spec", lambda name: None)
    lines = ["av>=18", 'onnx>=1.18; extra == "export"', "onnxruntime>=1.22; extra == 'export'", 'ruff; extra == "dev"']
    monkeypatch.setattr("bwpipe.core.extras.requires", lambda name: lines)

    with pytest.raises(UsageError, match=r"onnx is not installed; run: .* -m pip install onnx onnxruntime"):
        export_onnx(tmp_path / "no.safetensors")


@pytest.mark.slow
def test_unet_is_exported() -> None:
    assert len(export_onnx(locate("unet"))) > 10_000_000
