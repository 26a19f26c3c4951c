"""The `adapt` stage: a network fitted to a few coloured stills, through the graph that ships."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from bwpipe import UsageError, run
from bwpipe.core import plugins
from bwpipe.engine.run import RunResult
from bwpipe.graph.templates import ADAPT, template
from bwpipe.nn.checkpoint import Checkpoint, load, save
from bwpipe.nn.network import networks

NETWORKS = Path(__file__).parents[1] / "support" / "networks"
plugins.load([NETWORKS])
TINTS = ((35, -30), (5, 5), (-30, 35))
"""Cb and Cr, in code values, of what is dark, medium and bright in the series."""


def scene(seed: int) -> NDArray[np.uint8]:
    """A picture of the series as Y'CbCr, (96, 96, 3): patches of three brightnesses, each of about a colour of its own."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, (6, 6))
    chroma = np.array(TINTS)[kinds] + rng.integers(-15, 16, (6, 6, 2))
    planes = np.dstack([np.array([70, 120, 180])[kinds], 128 + chroma])
    return planes.repeat(16, axis=0).repeat(16, axis=1).astype(np.uint8)


def write(folder: Path, *seeds: int, grey: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        picture = Image.fromarray(scene(seed)[..., 0]) if grey else Image.fromarray(scene(seed), "YCbCr").convert("RGB")
        picture.save(folder / f"{seed:03}.png")
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A checkpoint of a network with a backbone that has norms and dropout."""
    torch.manual_seed(5)
    cls = networks["test-chroma"]
    save(tmp_path / "start.safetensors", cls(cls.Options()), Checkpoint(network="test-chroma", version="0"))
    return tmp_path / "start.safetensors"


def adapted(folder: Path, start: Path, changes: Mapping[str, Any] | None = None, *, quiet: bool = True) -> RunResult:
    """Run the graph that ships on `stills`."""
    graph = Path(shutil.copy(template(ADAPT), folder))
    own = {"read.path": str(folder / "stills"), "adapt.start": str(start), "save.path": str(folder / "adapted.safetensors")}
    return run(graph, set={**own, "adapt.device": "cpu", "adapt.rate": 0.05, "adapt.steps": 60, **(changes or {})}, quiet=quiet)


def error(model: Path, folder: Path, out: Path) -> float:
    """The mean error of chroma, in code values, of pictures of the series that are coloured."""
    stages = [
        {"use": "read", "path": str(folder)},
        {"use": "grayscale"},
        {"use": "colorize", "model": str(model), "device": "cpu", "runtime": "torch", "precision": "float32", "workers": 1},
        {"use": "write", "path": str(out)},
    ]
    assert run({"plugins": [str(NETWORKS)], "stages": stages}).exit_code == 0
    found = [np.asarray(Image.open(path).convert("YCbCr"), float)[..., 1:] for path in sorted(out.glob("*.png"))]
    truth = [scene(int(path.stem)).astype(float)[..., 1:] for path in sorted(out.glob("*.png"))]
    return float(np.abs(np.stack(found) - np.stack(truth)).mean())


def test_other_pictures_of_a_series_take_the_colours_of_its_stills(tmp_path: Path, start: Path) -> None:
    write(tmp_path / "stills", 1, 2)
    write(tmp_path / "others", 3, 4, 5, grey=True)

    result = adapted(tmp_path, start)

    before, after = (
        error(each, tmp_path / "others", tmp_path / each.stem) for each in (start, tmp_path / "adapted.safetensors")
    )
    assert (result.exit_code, result.remarks) == (0, {})
    assert after < 0.6 * before
    card = (tmp_path / "adapted.md").read_text()
    assert "| stills | 2 |" in card
    assert "| steps | 60 |" in card
    assert "Epochs" not in card


def test_what_sees_stays_as_it_is_and_what_chooses_colours_changes(tmp_path: Path, start: Path) -> None:
    write(tmp_path / "stills", 1)

    adapted(tmp_path, start, {"save.half": False, "adapt.steps": 3})

    old, new = (load(path)[0].state_dict() for path in (start, tmp_path / "adapted.safetensors"))
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"layers.0.weight", "layers.0.bias"}  # neither the backbone nor the statistics of its norms


def test_the_same_stills_give_the_same_bytes_and_further_ones_others(tmp_path: Path, start: Path) -> None:
    write(tmp_path / "stills", 1)
    found = []
    for _ in range(2):
        adapted(tmp_path, start, {"adapt.steps": 5})
        found.append((tmp_path / "adapted.safetensors").read_bytes())
    write(tmp_path / "stills", 2)
    adapted(tmp_path, start, {"adapt.steps": 5})

    assert found[0] == found[1] != (tmp_path / "adapted.safetensors").read_bytes()


def test_stills_in_black_and_white_are_left_out_and_counted(
    tmp_path: Path, start: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "stills", 1)
    write(tmp_path / "stills", 2, grey=True)

    result = adapted(tmp_path, start, {"adapt.steps": 2}, quiet=False)

    assert "adapt: 1 still, 2 steps: mean error of chroma on them" in capsys.readouterr().err
    assert result.left_out == {"in black and white": 1}


def test_stills_none_of_which_is_in_colour_are_refused(tmp_path: Path, start: Path) -> None:
    write(tmp_path / "stills", 1, grey=True)

    with pytest.raises(UsageError, match="adapt: none of the stills is in colour; give coloured ones"):
        adapted(tmp_path, start)
    assert not (tmp_path / "adapted.safetensors").exists()


def test_more_stills_than_it_can_take_are_refused_before_any_is_read(tmp_path: Path, start: Path) -> None:
    (tmp_path / "stills").mkdir()
    for number in range(257):
        Image.new("L", (8, 8)).save(tmp_path / "stills" / f"{number}.png")

    with pytest.raises(UsageError, match=r"257 stills are more than it can take \(256\); give fewer, or fine-tune"):
        adapted(tmp_path, start)


def test_a_rate_that_leads_away_from_the_stills_is_named(tmp_path: Path, start: Path) -> None:
    write(tmp_path / "stills", 1)

    result = adapted(tmp_path, start, {"adapt.rate": 5.0, "adapt.steps": 2})

    assert list(result.remarks) == ["`adapt` came no closer to the stills; set a lower `adapt.rate`, or more `adapt.steps`"]


@pytest.mark.parametrize(
    ("below", "message"),
    [
        ({"use": "score"}, "score: `adapt` sets no images aside; set `score.on` to others, or leave `score` out"),
        ({"use": "calibrate"}, "calibrate: the network 'test-chroma' predicts no distribution over bins"),
    ],
)
def test_what_needs_images_that_were_set_aside_is_refused_at_once(
    below: dict[str, Any], message: str, tmp_path: Path, start: Path
) -> None:
    write(tmp_path / "stills", 1)
    stages = [{"use": "read", "path": str(tmp_path / "stills")}, {"use": "adapt", "start": str(start), "device": "cpu"}, below]

    with pytest.raises(UsageError, match=message):
        run({"stages": stages})


def test_soup_takes_the_network_part_of_the_way_back(tmp_path: Path, start: Path) -> None:
    write(tmp_path / "stills", 1)
    stages = [
        {"use": "read", "path": str(tmp_path / "stills")},
        {"use": "adapt", "start": str(start), "steps": 3, "device": "cpu"},
        {"use": "save", "id": "whole", "path": str(tmp_path / "whole.safetensors"), "half": False},
        {"use": "soup", "from": "adapt", "checkpoints": {str(start): 0.5}},
        {"use": "save", "id": "mixed", "path": str(tmp_path / "mixed.safetensors"), "half": False},
    ]

    assert run({"stages": stages}).exit_code == 0

    first, whole, mixed = (
        load(path)[0].state_dict() for path in (start, tmp_path / "whole.safetensors", tmp_path / "mixed.safetensors")
    )
    name = "layers.0.weight"
    torch.testing.assert_close(mixed[name], 0.5 * first[name] + 0.5 * whole[name])
