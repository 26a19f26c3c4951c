"""What a command imports: torch takes longer to import than a picture takes to colour."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.support.made_films import MKV, make_film

SLOW = ("openvino_telemetry", "torch", "torchvision", "timm", "skimage", "scipy", "matplotlib")
PLUGIN = '''
from bwpipe import Frame, Map, stage


@stage("plain")
class Plain(Map):
    """Passes frames on."""

    by: int = 1

    def apply(self, frame: Frame) -> Frame:
        return frame
'''


def imported(*commands: Sequence[str | Path]) -> dict[str, set[str]]:
    """The slow packages that have been imported after each of these commands, one after the other; all must succeed."""
    program = (
        "import json, sys\n"
        "from bwpipe.cli.main import main\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    sys.argv[1:] = arguments\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, arguments\n"
        f"    print('imported:', arguments[0], *(name for name in {SLOW!r} if name in sys.modules), file=sys.stderr)\n"
    )
    given = json.dumps([list(map(str, command)) for command in commands])
    done = subprocess.run([sys.executable, "-c", program, given], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split()[1:] for line in done.stderr.splitlines() if line.startswith("imported: ")]
    return {name: set(packages) for name, *packages in lines}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with a picture and a film, both grey."""
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8))
    make_film(tmp_path / "in" / "b.mkv", replace(MKV, pix_fmt="gray", times=range(0, 3000, 1000)))
    return tmp_path / "in"


@pytest.mark.timeout(300)
def test_no_command_for_colouring_imports_torch_on_a_cpu(inputs: Path, tmp_path: Path) -> None:
    output, graph = tmp_path / "out", tmp_path / "graph.yaml"
    device, other = ("--set", "colorize.device=cpu"), ("--set", "colorize.model=autoencoder")
    shutil.copy(Path(__file__).parents[2] / "pipeline.yaml", graph)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "plain.py").write_text(PLUGIN)
    own = tmp_path / "own.json"
    stages = [{"use": "read", "path": str(inputs)}, {"use": "plain"}, {"use": "write", "path": str(output)}]
    own.write_text(json.dumps({"plugins": [str(tmp_path / "plugins")], "stages": stages}))
    places = ("--set", f"read.path={inputs}", "--set", f"write.path={tmp_path / 'second'}")

    found = imported(
        ("colorize", inputs, "-o", output, *device),
        ("verify", inputs, output),
        ("check", own, "--set", "plain.by=2"),
        ("stages", "read"),
        ("check", graph, *places, *device),
        ("run", graph, *places, *device, *other),
        ("preview", inputs / "b.mkv", "-o", tmp_path / "sheet.jpg", *device, *other),
    )

    assert found == {name: set() for name in ("colorize", "verify", "check", "stages", "run", "preview")}
    assert {path.name for path in output.iterdir()} == {"a.png", "b.mkv", ".bwpipe"}
    with av.open(str(output / "b.mkv")) as film:  # it went through the network and the memory of its key frames
        assert len(np.unique(next(film.decode(video=0)).to_ndarray(format="yuv444p")[1:])) > 1


def test_the_names_of_stages_are_those_of_their_modules() -> None:
    root = Path(__file__).parents[2]
    for folder, decorator in (("stages", "stage"), ("models", "network")):
        for path in (root / folder).glob("[!_]*.py"):
            assert re.findall(rf'^@{decorator}\("(\w+)"\)', path.read_text(encoding="utf-8"), re.MULTILINE) == [path.stem]
