"""The pages in docs/ are correct."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from bwpipe.core import plugins
from bwpipe.engine.run import run
from bwpipe.losses.base import losses
from bwpipe.nn.checkpoint import load, locate
from bwpipe.training.options import TrainingOptions
from tests.support.made_photos import write_photos

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def block(page: str, start: str) -> str:
    """The code block of a page that starts with `start`."""
    (found,) = re.findall(rf"```\w+\n({re.escape(start)}.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


@pytest.mark.usefixtures("own_registries")
def test_the_example_network_and_loss_can_be_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/tint.py").write_text(block("how-to/write-a-network.md", "# mine/tint.py"), encoding="utf-8")
    Path("mine/saturation.py").write_text(block("how-to/write-a-loss.md", "# mine/saturation.py"), encoding="utf-8")
    Path("tint.yaml").write_text(block("how-to/write-a-network.md", "# tint.yaml"), encoding="utf-8")
    [fit] = yaml.safe_load(block("how-to/write-a-loss.md", "  - use: fit"))
    write_photos(tmp_path / "photos", 10)

    options = {"epochs": 1, "batch": 4, "device": "cpu", "losses": fit["losses"]}
    changes = {**{f"fit.{name}": value for name, value in options.items()}, "pairs.toned": True}
    assert run("tint.yaml", set=changes).exit_code == 0

    _, checkpoint = load(Path("tint.safetensors"))
    (figures,) = checkpoint.training["history"]
    assert figures["loss"] == pytest.approx(figures["chroma_l1"] + 0.5 * figures["saturation"], rel=1e-5)
    assert 0 < figures["saturation"] < 1


def test_the_shipped_network_is_fine_tuned_by_the_graph_that_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fine-tune.yaml").write_text(block("how-to/fine-tune.md", "# fine-tune.yaml"), encoding="utf-8")
    write_photos(tmp_path / "photos", 14)
    small = {"pairs.size": 64, "pairs.toned": True, "fit.batch": 4, "fit.epochs": 1, "fit.augment.crop": [32, 64]}

    assert run("fine-tune.yaml", set={**small, "fit.device": "cpu"}).exit_code == 0

    shipped, tuned = (load(path)[0].state_dict() for path in (locate("unet"), Path("fine-tuned.safetensors")))
    changed = {name for name in shipped if not torch.equal(shipped[name], tuned[name])}
    assert any(name.startswith("ups.") for name in changed)
    assert not any(name.startswith("encoder.") and name.endswith(".weight") for name in changed), "it is held still"


def test_every_file_that_the_docs_name_is_there() -> None:
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        if page.name == "CHANGELOG.md":
            continue
        named = re.findall(
            r"`((?:bwpipe|bench|docs|examples|models|recipes|stages|tests)/[\w./-]*)`", page.read_text(encoding="utf-8")
        )
        assert [name for name in named if not (ROOT / name).exists()] == [], page


def test_every_page_is_in_the_index() -> None:
    linked = re.findall(r"\]\(([^)#]+)", (DOCS / "README.md").read_text(encoding="utf-8"))
    decisions = re.findall(r"\]\(([^)#]+)", (DOCS / "decisions" / "README.md").read_text(encoding="utf-8"))

    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"README.md", "index.md"}
    assert pages == {name for name in linked if not name.startswith("..")} | {f"decisions/{name}" for name in decisions}


def test_every_loss_is_in_the_table() -> None:
    plugins.load()
    page = (DOCS / "reference" / "training.md").read_text(encoding="utf-8")
    needs = {"rgb": "RGB", "chroma": "anything", "bins": "bins"}

    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE))

    assert rows == {name: needs[losses[name].needs] for name in losses if losses[name].__module__.startswith("bwpipe.")}


def test_every_training_option_that_is_named_exists() -> None:
    page = (DOCS / "reference" / "training.md").read_text(encoding="utf-8")

    table = re.search(r"\| option of `fit` .*?\n\n", page, re.DOTALL)

    assert table
    named = {name for row in table[0].strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert len(named) > 10
    assert named <= TrainingOptions.model_fields.keys()
