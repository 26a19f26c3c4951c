"""What every run time offers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bwpipe.errors import RunAborted
from bwpipe.nn.input_size import Quality

Planes = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The prediction of a network for a batch.

    Attributes:
        chroma: (B, 2, h, w) Cb and Cr in -0.5..0.5, on the network's own grid.
        confidence: (B, 1, h, w) in 0..1; None if the network reports none.
        features: (B, C, H / 16, W / 16); None if the network has none.
    """

    chroma: Planes
    confidence: Planes | None = None
    features: Planes | None = None

    @classmethod
    def joined(cls, parts: Sequence["Prediction"]) -> "Prediction":
        """One prediction of several for parts of a batch."""

        def whole(planes: Sequence[Planes | None]) -> Planes | None:
            found = [each for each in planes if each is not None]
            return np.concatenate(found) if found else None

        chroma = np.concatenate([part.chroma for part in parts])
        return cls(chroma, whole([part.confidence for part in parts]), whole([part.features for part in parts]))

    def check_finite(self, network: str, remedy: str) -> None:
        """Refuse a prediction that is not finite; `remedy` is what to do. Raises RunAborted."""
        if not all(np.isfinite(planes).all() for planes in (self.chroma, self.confidence) if planes is not None):
            raise RunAborted(f"the network {network!r} predicted colours that are not finite numbers; {remedy}")


class Runtime(Protocol):
    """A network that is ready to compute, whatever computes it. `predict` may be called by several threads at a time."""

    @property
    def registered(self) -> str:
        """The network's name."""
        ...

    @property
    def takes_hints(self) -> bool:
        """Whether `predict` uses hints."""
        ...

    @property
    def resolved(self) -> Mapping[str, str]:
        """For the provenance: what computes, in which precision, and on which device."""
        ...

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        """As in `bwpipe.nn.network.Network`."""
        ...

    def further_views(self, height: int, width: int, quality: Quality = "normal") -> tuple[tuple[int, int], ...]:
        """As in `bwpipe.nn.network.Network`."""
        ...

    def predict(
        self, luma: Planes, vividness: float | None = None, hints: Planes | None = None, *, many: bool = False
    ) -> Prediction:
        """Predict the chroma of a batch. What it is for an image does not depend on the rest of the batch.

        Args:
            luma: (B, h, w) in 0..1, at `input_size`.
            vividness: As in `bwpipe.nn.network.Network.decode`.
            hints: (B, 3, h, w) Cb and Cr in -0.5..0.5, and in 0..1 how far each point is known; None for none.
            many: Whether many of this size are to come, as in a film, so that it pays to compile the network for it. It may
                change the result by rounding, and nothing else that happens before does.

        Raises:
            MemoryError: The device is out of memory.
            RunAborted: The device failed, or the prediction is not finite.
        """
        ...

    def close(self) -> None:
        """Release the weights."""
        ...
