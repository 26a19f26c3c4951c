"""The pages in docs/ say what is true."""

import re
from pathlib import Path

import pytest
import yaml

from bwpipe.core import plugins
from bwpipe.engine.run import run
from bwpipe.losses.base import losses
from bwpipe.nn.checkpoint import load
from bwpipe.training.options import TrainingOptions
from tests.support.made_photos import write_photos

DOCS = Path(__file__).parents[2] / "docs"


def test_the_network_and_the_loss_that_are_shown_can_be_trained(tmp_path: Path) -> None:
    page = (DOCS / "writing-a-stage.md").read_text()
    shown = dict(re.findall(r'```python\n("""The `(?:tint|saturation)` (network|loss).*?)```', page, re.DOTALL))
    (tmp_path / "mine").mkdir()
    for text, kind in shown.items():
        (tmp_path / "mine" / f"{kind}.py").write_text(text)
    (fit,) = re.findall(r"```yaml\n  - (use: fit.*?)```", page, re.DOTALL)
    options = {"epochs": 1, "batch": 4, "device": "cpu", "runs": str(tmp_path / "runs")}
    stages = [
        {"use": "read", "path": str(write_photos(tmp_path / "photos", 10))},
        {"use": "pairs", "size": 128, "toned": True},
        {"use": "dataset", "cache": str(tmp_path / "cache")},
        {**yaml.safe_load(fit.replace("\n    ", "\n")), **options},
    ]

    assert run({"plugins": [str(tmp_path / "mine")], "stages": stages}).exit_code == 0

    _, told = load(tmp_path / "runs" / "best.safetensors")
    (figures,) = told.training["history"]
    assert figures["loss"] == pytest.approx(figures["chroma_l1"] + 0.5 * figures["saturation"], rel=1e-5)
    assert 0 < figures["saturation"] < 1


def test_every_loss_is_in_the_table() -> None:
    plugins.load()
    page = (DOCS / "training.md").read_text()
    needs = {"rgb": "RGB", "chroma": "anything", "bins": "bins"}

    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE))

    assert rows == {name: needs[losses[name].needs] for name in losses if losses[name].__module__.startswith("bwpipe.")}


def test_every_option_of_a_training_that_is_named_exists() -> None:
    page = (DOCS / "training.md").read_text()

    table = re.search(r"\| option of `fit` .*?\n\n", page, re.DOTALL)

    assert table
    named = {name for row in table[0].strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert len(named) > 10
    assert named <= TrainingOptions.model_fields.keys()
