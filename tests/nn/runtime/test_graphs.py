"""Where graphs of networks come from: the package, the user's cache, or torch."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bwpipe.core import plugins
from bwpipe.nn.checkpoint import Checkpoint, save
from bwpipe.nn.checkpoint_file import describe
from bwpipe.nn.network import Guess, Network, Quality, network, networks
from bwpipe.nn.runtime.choose import open_runtime
from bwpipe.nn.runtime.graph_file import read_graph_file
from bwpipe.nn.runtime.graphs import cache_folders, cache_name, find_graph
from bwpipe.nn.runtime.openvino import OpenVinoRuntime
from bwpipe.nn.runtime.pytorch import TorchRuntime


@network("test-graphs")
class Small(Network):
    """Predicts chroma at any size; `twisted` decides by the values it sees, which no graph can do."""

    produces: ClassVar[Literal["rgb", "chroma", "bins"]] = "chroma"
    twisted: ClassVar[bool] = False

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.layer = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, luma: Tensor) -> Tensor:
        if self.twisted and luma.mean() > 0.5:
            luma = 1 - luma
        output: Tensor = self.layer(luma).tanh() / 2
        return output

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        return height // 8, width // 8

    def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
        return Guess(output * (1 if vividness is None else 1 + vividness))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bwpipe" / "graphs"


def written(path: Path, seed: int = 0, name: str = "test-graphs") -> Path:
    torch.manual_seed(seed)
    cls = networks[name]
    save(path, cls(cls.Options()), Checkpoint(network=name, version="0"))
    return path


def opened(path: Path, warnings: list[str] | None = None, work: tuple[Path, ...] = ()) -> Any:
    warn = (lambda text: None) if warnings is None else warnings.append
    return open_runtime(path, "openvino", ["cpu"], "float32", warn=warn, work=work)


def test_a_network_is_traced_once_and_kept_in_the_users_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "own.safetensors")

    first = opened(path)

    (file,) = cache.iterdir()
    assert read_graph_file(file) is not None
    monkeypatch.setattr("bwpipe.nn.runtime.trace.trace", None)  # must not be called again
    luma = np.random.default_rng(0).random((1, 20, 30), np.float32)
    assert isinstance(first, OpenVinoRuntime)
    assert (first.predict(luma).chroma == opened(path).predict(luma).chroma).all()


def test_other_weights_get_a_graph_of_their_own(tmp_path: Path, cache: Path) -> None:
    paths = [written(tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1)]
    luma = np.random.default_rng(0).random((1, 20, 30), np.float32)

    one, other = (opened(path).predict(luma).chroma for path in paths)

    assert len(list(cache.iterdir())) == 2
    assert np.abs(one - other).max() > 0.01


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "foreign"])
def test_a_damaged_graph_is_made_again(tmp_path: Path, cache: Path, damage: str) -> None:
    path = written(tmp_path / "own.safetensors")
    luma = np.random.default_rng(0).random((1, 20, 30), np.float32)
    expected = opened(path).predict(luma).chroma
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    file.write_bytes(
        {"cut": whole[:-100], "flipped": bytes(flipped), "emptied": b"", "foreign": b"PK\x03\x04 something"}[damage]
    )

    assert (opened(path).predict(luma).chroma == expected).all()
    assert file.read_bytes() != b""
    assert read_graph_file(file) is not None


def test_a_network_that_cannot_be_traced_is_computed_by_torch_with_a_warning(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Small, "twisted", True)
    warnings: list[str] = []

    runtime = opened(written(tmp_path / "own.safetensors"), warnings)

    assert isinstance(runtime, TorchRuntime)
    (warning,) = warnings
    assert warning.startswith("the network 'test-graphs' can't be compiled for OpenVINO (at ")
    assert warning.endswith(" code values), so torch computes it")
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    assert isinstance(opened(written(tmp_path / "own.safetensors")), OpenVinoRuntime)


def test_without_a_home_graphs_are_kept_in_the_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    (tmp_path / "out").mkdir()

    opened(written(tmp_path / "own.safetensors"), work=(tmp_path / "out",))

    assert [path.suffix for path in (tmp_path / "out" / ".bwpipe" / "graphs").iterdir()] == [".zip"]


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="they have folders of their own")
def test_the_cache_folder_follows_the_xdg_specification(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}

    assert cache_folders((), home) == [tmp_path / ".cache" / "bwpipe" / "graphs"]
    assert cache_folders((), {**home, "XDG_CACHE_HOME": "relative"}) == [tmp_path / ".cache" / "bwpipe" / "graphs"]
    assert cache_folders((), {**home, "XDG_CACHE_HOME": "/elsewhere"}) == [Path("/elsewhere/bwpipe/graphs")]
    assert cache_folders((), {}) == []


def test_a_change_of_the_networks_code_or_of_a_version_is_another_graph(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    source = Path(__file__).read_text(encoding="utf-8").partition("@network")[2].partition("@pytest.fixture")[0]
    head = "from typing import Any, ClassVar, Literal\nfrom torch import Tensor, nn\n"
    imports = "from bwpipe.nn.network import Guess, Network, Quality, network\n"
    code = f"{head}{imports}@network{source}".replace("test-graphs", "test-graphs-plugin")
    (folder / "small.py").write_text(code)
    plugins.load([folder])
    path = written(tmp_path / "own.safetensors", name="test-graphs-plugin")
    checkpoint = describe(path)
    names = [cache_name(path, checkpoint)]

    (folder / "small.py").write_text(code + "# changed")
    names.append(cache_name(path, checkpoint))
    monkeypatch.setattr("bwpipe.nn.runtime.graphs.openvino_version", lambda: "1999.1")
    names.append(cache_name(path, checkpoint))

    assert len(set(names)) == 3


def test_weights_of_the_users_own_use_the_shipped_graph_of_their_network(tmp_path: Path, cache: Path) -> None:
    path = written(tmp_path / "own.safetensors", name="autoencoder")

    assert find_graph(path, describe(path), [])
    code = (
        "import sys; from pathlib import Path; from bwpipe.nn.runtime.choose import open_runtime\n"
        f"open_runtime(Path({str(path)!r}), 'openvino', ['cpu'], 'auto'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100, env=os.environ)
    assert not cache.exists()
