"""The size of a network's input: how it follows from an image's size and the quality. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from bwpipe.errors import UsageError

Quality: TypeAlias = Literal["fast", "normal", "best"]
"""The resolution at which a network sees an image, and how many times: higher quality takes longer."""


@dataclass(frozen=True)
class InputSizes:
    """A network's input size as data, so that it is known without the network's code.

    Attributes:
        short_sides: Short side of the input by quality, in pixels.
        stride: Both sides are rounded to multiples of it.
        max_aspect: Maximum aspect ratio: longer images are squeezed to it. With 1 every input is square.
        further: Short sides of further views by quality, in pixels, whose predictions are averaged with the first one's.
    """

    short_sides: Mapping[Quality, int]
    stride: int = 1
    max_aspect: float = 1
    further: Mapping[Quality, tuple[int, ...]] = field(default_factory=dict)

    def of(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        """The input (height, width) for an upright image of that size."""
        return self._scaled(height, width, self.short_sides[quality])

    def further_views(self, height: int, width: int, quality: Quality = "normal") -> tuple[tuple[int, int], ...]:
        """The (height, width) of the further views of such an image, which are mirrored."""
        return tuple(self._scaled(height, width, short) for short in self.further.get(quality, ()))

    def _scaled(self, height: int, width: int, short: int) -> tuple[int, int]:
        least = min(height, width)

        def scaled(side: int) -> int:
            return round(short * min(side / least, self.max_aspect) / self.stride) * self.stride

        return scaled(height), scaled(width)

    @classmethod
    def square(cls, side: int) -> "InputSizes":
        """One square size for all images and qualities."""
        return cls({"fast": side, "normal": side, "best": side})


class HasInputSize(Protocol):
    """A network, or a run time that computes it."""

    @property
    def registered(self) -> str:
        """The network's name."""
        ...

    def input_size(self, height: int, width: int, quality: Quality = "normal") -> tuple[int, int]:
        """As in `bwpipe.nn.network.Network`."""
        ...

    def further_views(self, height: int, width: int, quality: Quality = "normal") -> tuple[tuple[int, int], ...]:
        """As in `bwpipe.nn.network.Network`."""
        ...


def check_quality(net: HasInputSize, quality: Quality, where: str) -> None:
    """Refuse a quality that makes no difference to a network; `where` is the stage or command. Raises UsageError."""

    def views(quality: Quality) -> tuple[tuple[int, int], ...]:
        height, width = 3000, 4000  # larger than the input of any network
        return net.input_size(height, width, quality), *net.further_views(height, width, quality)

    if quality != "normal" and views(quality) == views("normal"):
        raise UsageError(f"{where}: {net.registered} uses one input size for all pictures; leave out `quality: {quality}`")
