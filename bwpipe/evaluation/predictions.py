"""Guesses of what photographs look like in colour: a network's, or those in files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Chroma
from bwpipe.errors import MediaError
from bwpipe.evaluation.references import Files, Reference, Sizing, rgb_of
from bwpipe.nn.inference import frame_planes, predict
from bwpipe.nn.network import Guess, Network, Quality, check_quality
from bwpipe.pixels.chroma_upsampling import upsample_chroma
from bwpipe.pixels.resize import squash
from bwpipe.pixels.ycbcr import ycbcr_to_rgb


@dataclass(frozen=True, slots=True, eq=False)
class ColourisedImage:
    """A guess.

    Attributes:
        rgb: (H, W, 3) uint8, in the truth's size.
        own_mse: The mean squared error, 0..1, of the RGB that the network itself made, where it makes one.
    """

    rgb: NDArray[np.uint8]
    own_mse: float | None = None


class Predictions(Protocol):
    """Makes a guess for a truth. Called in several threads."""

    def __call__(self, truth: Reference) -> ColourisedImage:
        """Guess from the luma alone. Raises MediaError."""

    def describe(self) -> dict[str, str | float]:
        """Whose guesses they are, for people."""


class NetworkPredictions:
    """The source's luma as it is, and a network's chroma, enlarged as `bwpipe run` does.

    The network sees that luma; in a graph it may see the guide of `grayscale`, which is evened.
    """

    def __init__(self, network: Network, vividness: float | None, about: dict[str, str], quality: Quality = "normal") -> None:
        """Of a network on any device; `about` says which one it is. Raises UsageError where it does not know the quality."""
        check_quality(network, quality, "score")
        self._network = network.eval()
        self._vividness, self._quality, self._about = vividness, quality, about

    def __call__(self, truth: Reference) -> ColourisedImage:
        """Guess. Raises MemoryError, RunAborted."""
        shape: tuple[int, int] = truth.luma.shape
        made = self._guess(truth.luma)
        chroma = upsample_chroma(frame_planes(made.chroma[0].numpy(), shape), truth.luma, (0, 255), "bt601", shape)
        rgb = ycbcr_to_rgb(truth.luma, chroma).astype(np.uint8, copy=False)
        return ColourisedImage(rgb, None if made.rgb is None else _mse(made.rgb[0].float().cpu().numpy(), truth.rgb))

    def chroma(self, luma: NDArray[np.uint8]) -> Chroma:
        """The chroma (2, h, w) of luma (H, W), full range, on the network's own grid. Raises MemoryError, RunAborted."""
        return frame_planes(self._guess(luma).chroma[0].numpy(), luma.shape)

    def _guess(self, luma: NDArray[np.uint8]) -> Guess:
        height, width = luma.shape
        seen = squash(luma, *self._network.input_size(height, width, self._quality))[None].astype(np.float32) / np.float32(255)
        return predict(self._network, seen, self._vividness)

    def describe(self) -> dict[str, str | float]:
        """Which network, and how its chroma gets onto the picture."""
        return {
            **self._about,
            "vividness": "the network's own" if self._vividness is None else self._vividness,
            "quality": self._quality,
            "precision": str(next(self._network.parameters()).dtype).removeprefix("torch."),
            "seen": "the source's luma as it is, without the evening of `grayscale`",
            "guess": "that luma with the network's chroma, enlarged as `bwpipe run` does, in 8 bits",
        }


def _mse(own: NDArray[np.float32], truth: NDArray[np.uint8]) -> float:
    """The mean squared error of RGB (3, h, w) in 0..1 against RGB (H, W, 3)."""
    seen = squash(truth, *own.shape[1:]).astype(np.float32) / 255
    return float(np.mean((own.transpose(1, 2, 0) - seen) ** 2, dtype=np.float64))


class FilePredictions:
    """Pictures that someone or something coloured, with the names of the truths."""

    def __init__(self, files: Files, partners: dict[str, str], alone: int, sizing: Sizing) -> None:
        """`partners` says by a truth's name which file is its guess, `alone` how many on either side have no partner."""
        self._files, self._partners, self._alone, self._sizing = files, partners, alone, sizing

    def __call__(self, truth: Reference) -> ColourisedImage:
        """Read the guess. Raises MediaError, which names the file."""
        unit = self._files.unit(self._partners[truth.name])
        try:
            rgb = self._sizing(rgb_of(self._files.frame(str(unit.name))))
        except MediaError as error:
            raise MediaError(f"its guess {unit.path} {error}") from error
        if rgb.shape != truth.rgb.shape:
            sizes = " and ".join(f"{width} x {height}" for height, width, _ in (rgb.shape, truth.rgb.shape))
            raise MediaError(f"its guess {unit.path} has another size ({sizes} pixels); give --size to compare them at one")
        return ColourisedImage(rgb)

    def describe(self) -> dict[str, str | float]:
        """Which folder."""
        return {"guess": f"the pictures in {self._files.path}", "without_partner": self._alone}


def partners(truths: Sequence[str], guesses: Sequence[str]) -> dict[str, str]:
    """The guess's name by the truth's: the same, or the only one that is the same but for its ending, on both sides."""
    found = {name: name for name in set(truths) & set(guesses)}
    of_truths, of_guesses = (_by_stem(name for name in names if name not in found) for names in (truths, guesses))
    both = of_truths.keys() & of_guesses.keys()
    return found | {
        of_truths[stem][0]: of_guesses[stem][0] for stem in both if len(of_truths[stem]) == len(of_guesses[stem]) == 1
    }


def _by_stem(names: Iterable[str]) -> dict[PurePosixPath, list[str]]:
    stems: dict[PurePosixPath, list[str]] = {}
    for name in names:
        stems.setdefault(PurePosixPath(name).with_suffix(""), []).append(name)
    return stems
