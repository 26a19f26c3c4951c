"""`bwpipe import`: what it recognises, and what it refuses, without running anything in the file."""

import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from bwpipe.cli.main import app
from bwpipe.nn.checkpoint import Checkpoint, load
from bwpipe.nn.network import Guess, InputSizes, Network, NetworkOptions, Published, network, networks
from tests.support.published import published_shapes

SIDE = 32


@network("test-published")
class SmallPublished(Network):
    """A network of somebody else, in small."""

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"
    sizes: ClassVar[InputSizes] = InputSizes.square(SIDE)
    published: ClassVar[Published | None] = Published("somebody/small", "Somebody: Small, 2020", "CC0", "Cb and Cr")

    def __init__(self, options: NetworkOptions) -> None:
        super().__init__(options)
        self.layer = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)

    @classmethod
    def recognise(cls, shapes: Any) -> dict[str, Any] | None:
        return {} if "their.layer.weight" in shapes else None

    @classmethod
    def rename(cls, weight: str) -> str | None:
        return None if weight == "their.unused" else weight.removeprefix("their.")

    def forward(self, luma: Tensor) -> Tensor:
        chroma: Tensor = self.norm(self.layer(luma)) / 10
        return chroma

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        return Guess(output)


@pytest.fixture
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = SmallPublished(NetworkOptions()).state_dict()
    return {**{f"their.{name}": value for name, value in state.items()}, "their.unused": torch.zeros(3)}


def imported(source: Path, *options: str, code: int = 0) -> str:
    """Import a file as `out.safetensors` beside it: standard output, or standard error if a failure is expected."""
    target = source.with_name("out.safetensors")
    result = CliRunner().invoke(app, ["import", str(source), "-o", str(target), *options])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    if code:
        assert not target.exists()
        assert not target.with_suffix(".md").exists()
        assert len(result.stderr.splitlines()) == 1
    return result.stderr if code else result.stdout


SAVERS: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
    "plain": torch.save,
    "before PyTorch 1.6": lambda weights, path: torch.save(weights, path, _use_new_zipfile_serialization=False),
    "with other things": lambda weights, path: torch.save({"epoch": 3, "params": weights}, path),
    "of several GPUs": lambda weights, path: torch.save({f"module.{key}": each for key, each in weights.items()}, path),
    "as parameters": lambda weights, path: torch.save(
        {key: nn.Parameter(each) if each.is_floating_point() else each for key, each in weights.items()}, path
    ),
    "safetensors": save_file,
}


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_weights_of_others_become_a_checkpoint(
    weights: dict[str, Tensor], tmp_path: Path, save: Callable[[dict[str, Tensor], Path], None]
) -> None:
    source = tmp_path / "theirs.pth"
    save(weights, source)

    printed = imported(source)
    net, checkpoint = load(tmp_path / "out.safetensors")

    assert "test-published" in printed
    assert {f"their.{name}" for name in net.state_dict()} == weights.keys() - {"their.unused"}
    assert all(torch.equal(value, weights[f"their.{name}"]) for name, value in net.state_dict().items())
    assert checkpoint.network == "test-published"
    assert checkpoint.licence == "not stated; those of somebody/small: CC0"
    assert checkpoint.origin["file"] == "theirs.pth"
    assert checkpoint.origin["please cite"] == "Somebody: Small, 2020"
    assert len(checkpoint.origin["sha256"]) == 64
    card = (tmp_path / "out.md").read_text()
    assert all(text in card for text in ("Somebody: Small, 2020", "CC0", checkpoint.origin["sha256"]))


def test_the_terms_can_be_stated_and_pictures_say_them(weights: dict[str, Tensor], tmp_path: Path) -> None:
    import cv2
    import numpy as np

    torch.save(weights, tmp_path / "theirs.pth")
    cv2.imwrite(str(tmp_path / "grey.png"), np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1)))

    imported(tmp_path / "theirs.pth", "--licence", "mine alone")
    model, out = tmp_path / "out.safetensors", tmp_path / "coloured"
    options = ["--model", str(model), "--set", "colorize.runtime=torch", "--set", "colorize.device=cpu"]
    result = CliRunner().invoke(app, ["colorize", str(tmp_path / "grey.png"), "-o", str(out), *options])
    about = json.loads(CliRunner().invoke(app, ["info", str(out / "grey.png"), "--json"]).stdout)

    assert result.exit_code == 0, result.output
    text = json.dumps(about)
    assert "mine alone" in text
    assert "Somebody: Small, 2020" in text


class Harmful:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("form", ["archive", "before PyTorch 1.6", "bare pickle"])
def test_a_malicious_pickle_is_refused_by_the_name_of_what_it_calls(tmp_path: Path, form: str) -> None:
    mark, source = tmp_path / "mark", tmp_path / "theirs.pth"
    harm = {"their.layer.weight": torch.zeros(2, 1, 3, 3), "x": Harmful(mark)}
    if form == "bare pickle":
        source.write_bytes(pickle.dumps(Harmful(mark)))
    else:
        torch.save(harm, source, _use_new_zipfile_serialization=form == "archive")

    assert re.search(r"it would have Python call (posix|nt)\.system, .* nothing of it is run", imported(source, code=2))
    assert not mark.exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(weights: dict[str, Tensor], tmp_path: Path, legacy: bool, part: float) -> None:
    source = tmp_path / "theirs.pth"
    torch.save(weights, source, _use_new_zipfile_serialization=not legacy)
    data = source.read_bytes()
    source.write_bytes(data[: int(part * len(data))])

    assert re.search(r"cut short|can't read it", imported(source, code=2))


def test_an_encrypted_archive_is_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    source = tmp_path / "theirs.pth"
    torch.save(weights, source)
    data = bytearray(source.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(header, bytes(data)):
            data[found.start() + flags] |= 1
    source.write_bytes(data)

    assert "encrypted" in imported(source, code=2)


def test_another_architecture_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "theirs.pth")

    refusal = imported(tmp_path / "theirs.pth", code=2)

    assert (
        "its 2 weights (bias, weight, ...) are not those of a network that bwpipe knows; it knows ddcolor, deoldify, eccv16,"
        in refusal
    )


def test_weights_of_another_shape_are_refused_by_name(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({**weights, "their.layer.weight": torch.zeros(2, 1, 5, 5)}, tmp_path / "theirs.pth")

    refusal = imported(tmp_path / "theirs.pth", code=2)

    assert "looks like test-published, but for layer.weight it holds (2, 1, 5, 5), not (2, 1, 3, 3)" in refusal


def test_weights_that_are_not_finite_are_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({**weights, "their.layer.bias": torch.tensor([1.0, torch.nan])}, tmp_path / "theirs.pth")

    assert "its weight layer.bias has values that are not finite numbers" in imported(tmp_path / "theirs.pth", code=2)


def header_of_two_gigabytes(path: Path) -> None:
    path.write_bytes((2 * 10**9).to_bytes(8, "little") + b'{"a":' + bytes(100))


def tensor_of_a_terabyte(path: Path) -> None:
    torch.save({"their.layer.weight": torch.zeros(1).expand(10**6, 10**6)}, path)


def tensor_of_a_terabyte_before_1_6(path: Path) -> None:
    torch.save({"their.layer.weight": torch.zeros(1).expand(10**6, 10**6)}, path, _use_new_zipfile_serialization=False)


def packed_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))


def array_of_a_terabyte(path: Path) -> None:
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    path.write_bytes(magic + b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"x")


def whole_network(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path)


def no_weights(path: Path) -> None:
    torch.save({"epoch": 3}, path)


def text(path: Path) -> None:
    path.write_text("<html>Not found</html>")


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (header_of_two_gigabytes, "says that its header has 2,000,000,000"),
        (tensor_of_a_terabyte, r"a tensor has the shape \(1000000, 1000000\), and 1 numbers"),
        (tensor_of_a_terabyte_before_1_6, r"a tensor has the shape \(1000000, 1000000\), and 1 numbers"),
        (packed_archive, "its member 'archive/data.pkl' is compressed"),
        (array_of_a_terabyte, "more than 67,108,864 bytes"),
        (whole_network, "call torch.nn.modules.linear.Linear, .* ask for a file of weights only"),
        (no_weights, "it holds no weights by name"),
        (text, "it is no file of PyTorch"),
    ],
)
def test_other_files_are_refused_without_allocating_what_they_claim(
    tmp_path: Path, write: Callable[[Path], None], reason: str
) -> None:
    source = tmp_path / "theirs.pth"
    write(source)

    assert re.search(reason, imported(source, code=2))


def test_existing_files_and_checkpoints_of_bwpipe_are_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    source, target = tmp_path / "theirs.pth", tmp_path / "out.safetensors"
    torch.save(weights, source)
    imported(source)
    card = target.with_suffix(".md").read_bytes()

    again = CliRunner().invoke(app, ["import", str(source), "-o", str(target)])
    own = CliRunner().invoke(app, ["import", str(target), "-o", str(tmp_path / "other.safetensors")])

    assert (again.exit_code, own.exit_code) == (2, 2)
    assert "exists; move it away" in again.stderr
    assert "is a checkpoint of bwpipe already" in own.stderr
    assert target.with_suffix(".md").read_bytes() == card


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--network", "sigraph17"), "unknown network 'sigraph17'; did you mean 'siggraph17'"),
        (("--network", "eccv16"), "are not those of eccv16"),
        (("--set", "queries"), "write OPTION=VALUE"),
        (("--set", "queries=3"), "queries"),
    ],
)
def test_wrong_options_are_refused(weights: dict[str, Tensor], tmp_path: Path, options: tuple[str, ...], reason: str) -> None:
    torch.save(weights, tmp_path / "theirs.pth")

    assert reason in imported(tmp_path / "theirs.pth", *options, code=2)


def test_a_checkpoint_that_was_trained_here_says_nothing_of_an_origin() -> None:
    assert "origin" not in json.loads(Checkpoint(network="unet", version="1").to_json())


def test_ddcolor_is_recognised_with_its_options() -> None:
    shapes = published_shapes("ddcolor_tiny")

    assert networks["ddcolor"].recognise(shapes) == {
        "encoder": "convnext-t",
        "decoder": "MultiScaleColorDecoder",
        "last_norm": "Spectral",
        "queries": 100,
        "scales": 3,
        "layers": 9,
    }
