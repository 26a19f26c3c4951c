"""The weights that others publish, as lists of names and shapes."""

from pathlib import Path

import torch
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "models" / "published"


def published_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the published weights of a network by name."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split() for line in lines if not line.startswith("#"))
    return {weight: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for weight, shape in pairs}


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Weights of these shapes with which sums stay near 1; variances are positive, and counts are integers."""
    random = torch.Generator().manual_seed(seed)

    def made(name: str, shape: tuple[int, ...]) -> Tensor:
        if not shape:
            return torch.tensor(1)
        values = torch.randn(shape, generator=random)
        if len(shape) > 1:
            values *= (2 / values[0].numel()) ** 0.5
            return values
        values *= 0.1
        return 1 + values.abs() if name.endswith("running_var") else values

    return {name: made(name, shape) for name, shape in shapes.items()}
