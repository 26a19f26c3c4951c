"""The weights that come along: they load, they are small, and each has the model card that it tells itself."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from bwpipe.core import plugins
from bwpipe.nn.checkpoint import load
from bwpipe.training.model_card import card

SHIPPED = sorted((Path(__file__).parents[2] / "models" / "weights").glob("*.safetensors"))
LARGEST = 20_000_000
"""Bytes of one file, so that the package stays small."""

plugins.load()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_weights_that_ship_are_small_and_have_a_card_that_says_what_they_say(path: Path) -> None:
    net, told = load(path)

    assert net.registered == path.stem
    assert path.stat().st_size < LARGEST
    with safe_open(path, "pt") as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys() if "num_batches" not in name}  # noqa: SIM118
    assert kinds == {torch.float16}
    assert path.with_suffix(".md").read_text(encoding="utf-8") == card(path.stem, told)
    assert "scores" in told.training or "figures" in told.training
    assert "non-commercial" in told.training["data"] or "terms not stated" in told.training["data"]
