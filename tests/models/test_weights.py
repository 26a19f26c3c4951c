"""The shipped weights: they load, are small, and each has the model card rendered from its description."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from bwpipe.core import plugins
from bwpipe.nn.checkpoint import load
from bwpipe.training.model_card import card

SHIPPED = sorted((Path(__file__).parents[2] / "models" / "weights").glob("*.safetensors"))
LARGEST = 20_000_000
"""Maximum size of a file in bytes, so that the package stays small."""

plugins.load()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_weights_are_small_and_have_a_current_model_card(path: Path) -> None:
    net, description = load(path)

    assert net.registered == path.stem
    assert path.stat().st_size < LARGEST
    with safe_open(path, "pt") as file:
        dtypes = {file.get_tensor(name).dtype for name in file.keys() if "num_batches" not in name}  # noqa: SIM118
    assert dtypes == {torch.float16}
    assert path.with_suffix(".md").read_text(encoding="utf-8") == card(path.stem, description)
    assert "scores" in description.training or "figures" in description.training
    assert "non-commercial" in description.training["data"] or "terms not stated" in description.training["data"]
