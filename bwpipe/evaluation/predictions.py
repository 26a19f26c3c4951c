"""Predicted colours of photographs: from a network, or from files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Chroma
from bwpipe.core.inputs import StemIndex
from bwpipe.errors import MediaError
from bwpipe.evaluation.references import Files, Reference, Sizing, rgb_of
from bwpipe.nn.inference import average_views, frame_planes, predict
from bwpipe.nn.network import Guess, Network, Quality, check_quality
from bwpipe.pixels.chroma_upsampling import upsample_chroma
from bwpipe.pixels.resize import squash
from bwpipe.pixels.ycbcr import ycbcr_to_rgb


@dataclass(frozen=True, slots=True, eq=False)
class ColourisedImage:
    """A prediction.

    Attributes:
        rgb: (H, W, 3) uint8, in the reference's size.
        own_mse: Mean squared error, 0..1, of the network's own RGB output, if it has one.
    """

    rgb: NDArray[np.uint8]
    own_mse: float | None = None


class Predictions(Protocol):
    """Predicts colours for a reference. Called from several threads."""

    def __call__(self, reference: Reference) -> ColourisedImage:
        """Predict from the luma alone. Raises MediaError."""

    def describe(self) -> dict[str, str | float]:
        """The origin of the predictions, for people."""


class NetworkPredictions:
    """The source's luma, unchanged, with a network's chroma, upsampled as `bwpipe run` does.

    The network's input is that luma; in a graph it may be the guide of `grayscale`, whose levels are adjusted.
    """

    def __init__(self, network: Network, vividness: float | None, about: dict[str, str], quality: Quality = "normal") -> None:
        """Wrap a network on any device; `about` identifies it. Raises UsageError if it does not support the quality."""
        check_quality(network, quality, "score")
        self._network = network.eval()
        self._vividness, self._quality, self._about = vividness, quality, about

    def __call__(self, reference: Reference) -> ColourisedImage:
        """Predict. Raises MemoryError, RunAborted."""
        shape: tuple[int, int] = reference.luma.shape
        planes, output = self._predict(reference.luma)
        chroma = upsample_chroma(frame_planes(planes, shape), reference.luma, (0, 255), "bt601", shape)
        rgb = ycbcr_to_rgb(reference.luma, chroma).astype(np.uint8, copy=False)
        return ColourisedImage(rgb, None if output.rgb is None else _mse(output.rgb[0].float().cpu().numpy(), reference.rgb))

    def chroma(self, luma: NDArray[np.uint8]) -> Chroma:
        """The chroma (2, h, w), on the network's own grid, for luma (H, W) in full range. Raises MemoryError, RunAborted."""
        return frame_planes(self._predict(luma)[0], luma.shape)

    def _predict(self, luma: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Guess]:
        """The chroma (2, h, w), the mean over all views, and the prediction for the first view."""
        height, width = luma.shape
        net, quality = self._network, self._quality
        guesses = [
            predict(net, seen[None].astype(np.float32) / np.float32(255), self._vividness)
            for seen in (
                squash(luma, *net.input_size(height, width, quality)),
                *(squash(luma, *size)[:, ::-1] for size in net.further_views(height, width, quality)),
            )
        ]
        return average_views([guess.chroma.numpy() for guess in guesses])[0], guesses[0]

    def describe(self) -> dict[str, str | float]:
        """The network, and how its chroma is combined with the image."""
        return {
            **self._about,
            "vividness": "the network's own" if self._vividness is None else self._vividness,
            "quality": self._quality,
            "precision": str(next(self._network.parameters()).dtype).removeprefix("torch."),
            "seen": "the source's luma, unchanged, without the level adjustment of `grayscale`",
            "guess": "that luma with the network's chroma, upsampled as `bwpipe run` does, in 8 bits",
        }


def _mse(output: NDArray[np.float32], reference: NDArray[np.uint8]) -> float:
    """The mean squared error of RGB (3, h, w) in 0..1 against RGB (H, W, 3)."""
    resized = squash(reference, *output.shape[1:]).astype(np.float32) / 255
    return float(np.mean((output.transpose(1, 2, 0) - resized) ** 2, dtype=np.float64))


class FilePredictions:
    """Coloured images of any origin, with the names of the references."""

    def __init__(self, files: Files, partners: dict[str, str], unpaired: int, sizing: Sizing) -> None:
        """`partners` maps references' names to predictions; `unpaired` counts the files without a partner on either side."""
        self._files, self._partners, self._unpaired, self._sizing = files, partners, unpaired, sizing

    def __call__(self, reference: Reference) -> ColourisedImage:
        """Read the prediction. Raises MediaError, which names the file."""
        unit = self._files.unit(self._partners[reference.name])
        try:
            rgb = self._sizing(rgb_of(self._files.frame(str(unit.name))))
        except MediaError as error:
            raise MediaError(f"its prediction {unit.path} {error}") from error
        if rgb.shape != reference.rgb.shape:
            sizes = " and ".join(f"{width} x {height}" for height, width, _ in (rgb.shape, reference.rgb.shape))
            raise MediaError(
                f"its prediction {unit.path} has a different size ({sizes} pixels); use --size to compare them at one size"
            )
        return ColourisedImage(rgb)

    def describe(self) -> dict[str, str | float]:
        """The folder."""
        return {"guess": f"the images in {self._files.path}", "without_partner": self._unpaired}


def partners(references: Sequence[str], predictions: Sequence[str]) -> dict[str, str]:
    """Predictions' names by references' names: equal, or unique on both sides once extensions are ignored."""
    found = {name: name for name in set(references) & set(predictions)}
    rest, others = ([PurePosixPath(name) for name in names if name not in found] for names in (references, predictions))
    of_rest, of_others = StemIndex(rest), StemIndex(others)
    for name in rest:
        match of_others.find(name):
            case [other] if len(of_rest.find(other)) == 1:
                found[str(name)] = str(other)
    return found
