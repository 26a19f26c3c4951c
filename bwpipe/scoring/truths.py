"""Photographs as they are: what guesses are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bwpipe.dataset import Dataset
from bwpipe.execution import Run
from bwpipe.frame import Broken, Unit
from bwpipe.scoring.files import Files, Sizing, luma_of, rgb_of


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """A photograph in colour.

    Attributes:
        name: Its place below the folder, such as "people/anna.jpg".
        luma: (H, W) uint8, what a network is shown.
        rgb: (H, W, 3) uint8.
    """

    name: str
    luma: NDArray[np.uint8]
    rgb: NDArray[np.uint8]

    @property
    def grey(self) -> NDArray[np.uint8]:
        """The luma as RGB (H, W, 3)."""
        return np.repeat(self.luma[..., None], 3, axis=2)


class Truths(Protocol):
    """Photographs that can be read by name, in several threads, more than once."""

    names: list[str]

    @property
    def refused(self) -> Sequence[Broken]:
        """Further ones, whose header already says that they can't be read."""

    def read(self, name: str) -> Truth | None:
        """The photograph of that name; None where it has no colour. Raises MediaError."""

    def unit(self, name: str) -> Unit | Broken:
        """What fails where it can't be scored."""

    def told(self) -> dict[str, str | int]:
        """What they are, for people."""


class Photographs:
    """Pictures in colour, in files."""

    def __init__(
        self, files: Files, sizing: Sizing, run: Run, names: list[str] | None = None, refused: Sequence[Broken] | None = None
    ) -> None:
        """Those of some files, or these of them.

        Args:
            files: The files.
            sizing: What is done to each.
            run: Notes what is left out.
            names: The ones that are meant, if not all.
            refused: What can't be read, if that is not only the files' own.
        """
        self.names = files.names if names is None else names
        self.refused = files.refused if refused is None else refused
        self.unit = files.unit
        self._files, self._sizing, self._run = files, sizing, run

    def read(self, name: str) -> Truth | None:
        """The photograph of that name; None where it is in black and white. Raises MediaError."""
        frame = self._files.frame(name)
        if frame.chroma is None:
            self._run.leave_out(frame.unit.media, "in black and white, so nothing to compare with")
            return None
        return Truth(name, self._sizing(luma_of(frame)), self._sizing(rgb_of(frame)))

    def told(self) -> dict[str, str | int]:
        """What they are."""
        rgb = "in 8 bits, within 1 of what a PNG stores, since pictures are read as luma and chroma"
        return {"set": self._files.path, "rgb": rgb, **self._sizing.told()}


class Validation:
    """The pictures of a dataset that are not trained on."""

    refused: Sequence[Broken] = ()

    def __init__(self, data: Dataset, sizing: Sizing) -> None:
        """Those of a dataset, whose size they have before the sizing."""
        self._data, self._sizing = data, sizing
        self._places = {data.names[place]: place for place in data.validation.tolist()}
        self.names = list(self._places)

    def read(self, name: str) -> Truth:
        """The photograph of that name."""
        place = self._places[name]
        return Truth(name, self._sizing(self._data.grey[place]), self._sizing(self._data.colour[place]))

    def unit(self, name: str) -> Broken:
        """The file that it was made of."""
        return Broken(Path(name), PurePosixPath(name), "")

    def told(self) -> dict[str, str | int]:
        """What they are."""
        data, sizing = self._data, self._sizing.told()
        if not self._sizing.size:
            sizing["size"] = f"{data.size} x {data.size} pixels, as in the dataset"
        return {"set": "the pictures of the dataset that were not trained on", "dataset": data.digest, **sizing}
