"""The shipped weights: they load, are small, and each has the model card rendered from its description."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn.functional import interpolate

from bwpipe.core import plugins
from bwpipe.metrics.image_metrics import colourfulness
from bwpipe.nn.checkpoint import load, locate
from bwpipe.nn.ycbcr import rgb_to_ycbcr, ycbcr_to_rgb
from bwpipe.pixels.resize import squash
from bwpipe.tools.samples import photographs
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


def test_vividness_moves_colourfulness_from_well_below_to_well_above_the_default() -> None:
    net, _ = load(locate("unet"))
    steps = (0.0, 0.25, 0.5, 0.75, 1.0)
    predicted = np.zeros(len(steps))

    for _, image in photographs():
        rgb = torch.from_numpy(squash(image, *net.input_size(*image.shape[:2]))).permute(2, 0, 1)[None] / 255
        luma, _ = rgb_to_ycbcr(rgb)
        for number, vividness in enumerate(steps):
            chroma = interpolate(net.guess(luma, vividness).chroma, luma.shape[2:], mode="bilinear")
            predicted[number] += colourfulness(rounded(ycbcr_to_rgb(luma, chroma)))

    assert (np.diff(predicted) > 0).all()
    assert net.options.model_dump()["vividness"] == steps[2]
    assert predicted[0] < 0.75 * predicted[2]  # the default is calibrated to 0.95 of photographs
    assert predicted[-1] > 1.32 * predicted[2]


def rounded(rgb: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """RGB (1, 3, H, W) in 0..1 as (H, W, 3) uint8."""
    return (255 * rgb[0].permute(1, 2, 0).numpy()).round().astype(np.uint8)
