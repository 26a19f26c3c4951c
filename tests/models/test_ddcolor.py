"""The `ddcolor` network with random weights of DDColor-tiny, built by the library that has its layers."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from typer.testing import CliRunner

from bwpipe.cli.main import app
from bwpipe.nn.checkpoint import load
from bwpipe.nn.lab import ab_to_chroma
from bwpipe.nn.network import Network
from bwpipe.nn.runtime.openvino import OpenVinoRuntime
from bwpipe.nn.runtime.trace import trace, weight_arrays
from tests.support.made_films import EVEN, KINDS, make_film
from tests.support.published import published_shapes

pytest.importorskip(
    "spandrel_extra_arches", reason="the layers of ddcolor are in `spandrel_extra_arches`, which is not installed"
)
pytestmark = [
    pytest.mark.slow,  # 55 million weights
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning"),  # of what the library imports
]


@pytest.fixture(scope="module")
def theirs() -> Any:
    """The network of the library, with random weights whose spectral norms have settled."""
    from spandrel_extra_arches.architectures.DDColor import DDColor

    torch.manual_seed(0)
    net = DDColor(encoder_name="convnext-t", input_size=(64, 64), num_output_channels=2, last_norm="Spectral", num_queries=100)
    net.train()
    with torch.no_grad():
        for _ in range(8):
            net(torch.rand(2, 3, 32, 32))
        net.refine_net[0][0].weight_orig *= 3000  # of colours that can be seen
        for _ in range(8):
            net(torch.rand(2, 3, 32, 32))
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def checkpoint(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their weights in the layout of the published files, imported."""
    folder = tmp_path_factory.mktemp("ddcolor")
    unused = {"encoder.arch.head_cls.weight": torch.zeros(1000, 768), "encoder.arch.head_cls.bias": torch.zeros(1000)}
    torch.save({"params": {**theirs.state_dict(), **unused}}, folder / "ddcolor.pth")
    result = CliRunner().invoke(app, ["import", str(folder / "ddcolor.pth"), "-o", str(folder / "ddcolor.safetensors")])
    assert result.exit_code == 0, result.output
    return folder / "ddcolor.safetensors"


@pytest.fixture(scope="module")
def net(checkpoint: Path) -> Network:
    return load(checkpoint)[0]


def test_the_published_file_has_the_weights_of_the_list(theirs: Any, net: Network) -> None:
    listed = {name: shape for name, shape in published_shapes("ddcolor_tiny").items() if "head_cls" not in name}

    assert {name: tuple(value.shape) for name, value in theirs.state_dict().items()} == listed
    assert sum(each.numel() for each in net.parameters()) == 55_006_640


def test_its_chroma_is_that_of_the_library_s_ab(theirs: Any, net: Network) -> None:
    luma = torch.rand(1, 1, 64, 96)

    ab: Tensor = theirs(luma.repeat(1, 3, 1, 1))

    assert ab.abs().max() > 1
    assert_close(net.guess(luma).chroma, ab_to_chroma(luma, ab))


def test_a_batch_of_four_equals_four_singles(net: Network) -> None:
    luma = torch.rand(4, 1, 64, 96)

    singles = torch.cat([net.guess(each).chroma for each in torch.split(luma, 1)])

    assert_close(net.guess(luma).chroma, singles, atol=1e-5, rtol=0)


def test_several_threads_may_share_it_and_its_copies(net: Network) -> None:
    shared = deepcopy(net)
    images = [torch.rand(1, 1, 32, 32 * (1 + number % 3)) for number in range(9)]
    wanted = [net.guess(each).chroma for each in images]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda luma: shared.guess(luma).chroma, images))

    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other)


def test_openvino_computes_it(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(net), "sizes", type(net.sizes)({"fast": 64, "normal": 64, "best": 64}, 32, 2))  # type: ignore[misc]
    luma = torch.rand(1, 1, 64, 96)

    graph = trace(net, {}, "test")
    found = OpenVinoRuntime(graph, lambda: weight_arrays(net), network=net).predict(luma[0].numpy())

    assert_close(torch.from_numpy(found.chroma), net.guess(luma).chroma, atol=1e-4, rtol=0)


def test_it_colours_samples_and_a_film_and_verify_proves_their_luma(checkpoint: Path, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    make_film(tmp_path / "in" / "film.mkv", replace(KINDS["uneven times, late sound"], times=EVEN[:4]))
    picture = next(path for path in sorted(samples.iterdir()) if path.suffix == ".png")
    (tmp_path / "in" / picture.name).write_bytes(picture.read_bytes())
    options = [
        "--model",
        str(checkpoint),
        "--quality",
        "fast",
        "--set",
        "colorize.runtime=torch",
        "--set",
        "colorize.device=cpu",
    ]

    result = CliRunner().invoke(app, ["colorize", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--verify", *options])

    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "film.mkv").exists()
    assert (tmp_path / "out" / picture.name).exists()
