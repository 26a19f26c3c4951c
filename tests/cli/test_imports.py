"""What a command imports: torch takes longer to import than a picture takes to colour."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.made_films import Kind, make_film

SLOW = ("openvino_telemetry", "torch", "torchvision", "timm", "skimage", "scipy", "matplotlib")


def imported(*arguments: str | Path) -> set[str]:
    """The slow packages that a command imports, on a CPU; it must succeed."""
    code = (
        "import sys; from bwpipe.cli.main import main\n"
        "try: main()\n"
        f"finally: print('imported:', *(name for name in {SLOW!r} if name in sys.modules), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=110, env=os.environ)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("imported:")[2].split())


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with a picture and a film."""
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8))
    make_film(tmp_path / "in" / "b.mp4", Kind(times=range(0, 5 * 512, 512)))
    return tmp_path / "in"


def test_no_command_for_colouring_imports_torch_on_a_cpu(inputs: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    graph = tmp_path / "graph.yaml"
    device = ("--set", "colorize.device=cpu")

    assert imported("colorize", inputs, "-o", output, "--recolour", *device) == set()
    assert {path.name for path in output.iterdir()} == {"a.png", "b.mp4", ".bwpipe"}
    stages = (
        ("read", f"path: {inputs}"),
        ("grayscale", ""),
        ("shots", ""),
        ("colorize", "device: cpu"),
        ("write", f"path: {output}"),
    )
    graph.write_text("stages:\n" + "".join(f"- use: {name}\n  {option}\n" for name, option in stages))
    assert imported("check", graph) == set()
    assert imported("run", graph) == set()
    assert imported("verify", inputs, output) == set()
    assert imported("preview", inputs / "b.mp4", "-o", tmp_path / "sheet.jpg", *device) == set()


def test_the_names_of_stages_are_those_of_their_modules() -> None:
    root = Path(__file__).parents[2]
    for folder, decorator in (("stages", "stage"), ("models", "network")):
        for path in (root / folder).glob("[!_]*.py"):
            assert re.findall(rf'^@{decorator}\("(\w+)"\)', path.read_text(encoding="utf-8"), re.MULTILINE) == [path.stem]
