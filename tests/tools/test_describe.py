"""What `bwpipe stages`, `bwpipe models` and `bwpipe check` show."""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from bwpipe import Frame, Map, NoEffect
from bwpipe.core import plugins
from bwpipe.core.options import build, options_of
from bwpipe.core.stage import stages
from bwpipe.engine.run import run
from bwpipe.errors import UsageError
from bwpipe.graph.graph import read_graph
from bwpipe.nn.network import Guess, Network, NetworkOptions, Quality, networks
from bwpipe.tools.describe import describe_graph, describe_network, describe_stage


class Soften(Map):
    """Softens frames.

    More is said here, in a sentence that is long enough to be broken into two lines, since it goes on and on, to its end.
    """

    registered: ClassVar[str] = "soften"

    radius: Annotated[float, Field(gt=0, le=9)]
    """How far, in pixels; where this is more than a word, it goes
    on in the next line."""
    edges: Literal["keep", "off"] | int = "keep"
    mask: NoEffect[Path | None] = None
    """Where to."""

    def apply(self, frame: Frame) -> Frame:
        return frame


def test_a_stage_is_described_by_its_docstrings_and_types() -> None:
    assert "\n".join(describe_stage(Soften)) == (
        "soften: Frame -> Frame\n"
        "  Softens frames.\n"
        "  More is said here, in a sentence that is long enough to be broken into two lines, since it goes on\n"
        "  and on, to its end.\n"
        "options:\n"
        "  radius: a number above 0 and of at most 9 (required)\n"
        "      How far, in pixels; where this is more than a word, it goes on in the next line.\n"
        "  edges: 'keep', 'off' or an integer (default 'keep')\n"
        "  mask: a path or nothing (default nothing)\n"
        "      Where to.\n"
        "  workers: an integer of at least 1 (default 1)\n"
        "      Number of items processed in parallel."
    )


class Tree(BaseModel):
    """Contains itself."""

    model_config = ConfigDict(extra="forbid")

    strength: float = 1.0
    """How strong it is."""
    branches: list["Tree"] = []
    """Further ones."""


class Prune(Map):
    """Cuts trees."""

    registered: ClassVar[str] = "prune"

    tree: Tree = Tree()
    """What is cut."""

    def apply(self, frame: Frame) -> Frame:
        return frame


def test_options_that_contain_themselves_are_described_once_and_checked_at_any_depth() -> None:
    own = (
        "  tree.strength: a number (default 1.0)\n"
        "      How strong it is.\n"
        "  tree.branches: a list, each item `key: value` pairs (default [])\n"
        "      Further ones.\n"
    )

    assert own in "\n".join(describe_stage(Prune))
    assert [option.name for option in options_of(Tree)] == ["strength", "branches"]
    problems = build(Tree, {"branches": [{"branches": [{"strenght": 2.0}]}]}, of="a tree")
    assert isinstance(problems, list)
    assert [problem.text for problem in problems] == [
        "unknown option 'strenght' of 'branches[0].branches[0]'; did you mean 'strength'?"
    ]


def test_every_built_in_stage_and_network_describes_its_options() -> None:
    plugins.load()

    described = [
        line for name in stages if stages[name].__module__.startswith("bwpipe.") for line in describe_stage(stages[name])
    ]
    ours = [networks[name] for name in networks if networks[name].__module__.startswith("bwpipe.")]
    described += [line for cls in ours for line in describe_network(cls)]

    options = [i for i, line in enumerate(described) if re.match(r"  [\w.]+: .+\((default .+|required)\)$", line)]
    assert len(options) > 20
    assert [described[i] for i in options if not described[i + 1].startswith("      ")] == []
    assert all(len(line) <= 200 for line in described)


def test_a_network_is_described_with_what_it_produces() -> None:
    class Sized(NetworkOptions):
        width: int = 4
        """How wide."""

    class Net(Network):
        """Guesses."""

        registered = "sized"
        produces = "chroma"
        Options = Sized

        def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
            return height, width

        def forward(self, luma: Tensor) -> Tensor:
            return luma.expand(-1, 2, -1, -1)

        def decode(self, output: Tensor, vividness: float | None = None) -> Guess:
            return Guess(output)

    assert list(describe_network(Net)) == [
        "sized: produces chroma",
        "  Guesses.",
        "options:",
        "  width: an integer (default 4)",
        "      How wide.",
    ]


def test_a_graph_is_described_with_what_a_run_would_do(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((9, 9), np.uint8))
    (tmp_path / "c.jpg").write_bytes(b"no picture")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").write_text("somebody's")
    graph = read_graph(
        {"stages": [{"use": "read", "path": tmp_path / "?.*"}, {"use": "write", "id": "copy", "path": tmp_path / "out"}]}
    )

    lines = list(describe_graph(graph))

    assert lines[0] == "read: nothing -> Frame"
    assert f"  path: {str(tmp_path / '?.*')!r}" in lines
    assert "copy (write): Frame -> nothing, after read" in lines
    assert "would read: 1 picture" in lines
    assert "kept, not written by bwpipe: 1" in lines
    assert [line for line in lines if line.startswith(f"can't be read: {tmp_path / 'c.jpg'}: ")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.jpg", "out"]


def test_a_graph_is_described_briefly_by_its_stages_and_what_was_overridden(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 9), np.uint8))
    stages = [{"use": "read", "path": tmp_path / "?.*"}, {"use": "write", "id": "copy", "path": tmp_path / "out"}]
    graph = read_graph({"stages": stages}, {"copy.quality": 80})

    assert list(describe_graph(graph, briefly=True)) == ["stages: read, copy", "  copy.quality: 80", "would read: 1 picture"]


def test_pictures_that_would_be_done_again_are_named_up_to_ten(tmp_path: Path) -> None:
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"{number:02}.png"), np.zeros((9, 9), np.uint8))
    grey = {"use": "grayscale", "denoise": "off"}
    stages = [{"use": "read", "path": tmp_path / "*.png"}, grey, {"use": "write", "path": tmp_path / "out"}]
    assert run({"stages": stages}).exit_code == 0

    lines = list(describe_graph(read_graph({"stages": stages}, {"grayscale.denoise": "light"}), briefly=True))

    assert "finished, but done again because the graph or the input changed: 12" in lines
    assert lines[-11:] == [*(f"  {number:02}.png" for number in range(10)), "  and 2 more"]


def test_a_graph_with_nothing_to_read_is_rejected(tmp_path: Path) -> None:
    graph = read_graph({"stages": [{"use": "read", "path": tmp_path}, {"use": "write", "path": tmp_path / "out"}]})

    with pytest.raises(UsageError, match=r"^stages\[0\]: there is nothing to read"):
        list(describe_graph(graph))
