"""The pages in docs/ say what is true."""

import re
from pathlib import Path

from bwpipe import plugins
from bwpipe.losses import combined, losses
from bwpipe.session import run
from bwpipe.training.options import TrainingOptions
from tests.made_photos import write_photos

DOCS = Path(__file__).parents[1] / "docs"


def test_the_network_that_is_shown_can_be_trained(tmp_path: Path) -> None:
    (shown,) = re.findall(r'```python\n("""The `tint` network.*?)```', (DOCS / "writing-a-stage.md").read_text(), re.DOTALL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tint.py").write_text(shown)
    fit = {
        "model": "tint",
        "losses": {"chroma_l1": 1},
        "epochs": 1,
        "batch": 4,
        "device": "cpu",
        "runs": str(tmp_path / "runs"),
    }
    stages = [
        {"use": "read", "path": str(write_photos(tmp_path / "photos", 10))},
        {"use": "pairs", "size": 128, "toned": True},
        {"use": "dataset", "cache": str(tmp_path / "cache")},
        {"use": "fit", **fit},
    ]

    assert run({"plugins": [str(tmp_path / "mine")], "stages": stages}).exit_code == 0

    assert (tmp_path / "runs" / "best.safetensors").exists()


def test_every_loss_is_in_the_table() -> None:
    plugins.load()
    page = (DOCS / "training.md").read_text()
    needs = {"rgb": "RGB", "chroma": "anything", "bins": "bins"}

    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE))

    assert combined.losses is losses
    assert rows == {name: needs[losses[name].needs] for name in losses if losses[name].__module__.startswith("bwpipe.")}


def test_every_option_of_a_training_that_is_named_exists() -> None:
    page = (DOCS / "training.md").read_text()

    table = re.search(r"\| option of `fit` .*?\n\n", page, re.DOTALL)

    assert table
    named = {name for row in table[0].strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert len(named) > 10
    assert named <= TrainingOptions.model_fields.keys()
