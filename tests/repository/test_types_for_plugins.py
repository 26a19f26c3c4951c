"""Type checkers find bwpipe from a plug-in outside the checkout, with the README's installation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = '''
"""A custom stage and a custom loss."""

from dataclasses import replace

from torch import Tensor
from torch.nn.functional import l1_loss

from bwpipe import Frame, Map, RunContext, stage
from bwpipe.losses import View, ViewBatch, ViewLoss, loss, target_chroma


@stage("negative")
class Negative(Map):
    """Turns a negative into a positive."""

    by: float = 1.0

    def setup(self, run: RunContext) -> None:
        run.warn("a sentence")

    def apply(self, frame: Frame) -> Frame:
        low, high = frame.unit.media.levels
        return replace(frame, luma=low + high - frame.luma.clip(low, high))


@loss("red")
class Red(ViewLoss):
    """The mean absolute error of Cr."""

    def compare(self, shown: ViewBatch, view: View) -> Tensor:
        prediction = view.guess.chroma
        return l1_loss(prediction[:, 1], target_chroma(shown, view, prediction)[:, 1])
'''
WRONG = "\nNegative(by='much').apply(1)\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_mypy_strict_checks_a_plugin_against_the_types_of_bwpipe(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(PLUGIN)
    (tmp_path / "wrong.py").write_text(PLUGIN + WRONG)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]

    right = subprocess.run([*command, "right.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    wrong = subprocess.run([*command, "wrong.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert right.stdout == "Success: no issues found in 1 source file\n"
    assert 'Argument 1 to "apply" of "Negative" has incompatible type "int"; expected "Frame"' in wrong.stdout
