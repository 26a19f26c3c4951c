"""Pictures shown in another way each time: grey and truth alike."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from bwpipe.core.stage import Count
from bwpipe.nn.ycbcr import rgb_to_ycbcr
from bwpipe.training.degradation.base import ASCENDING, FactorSpan

_NONE = (1.0, 1.0)
_TINY = 1e-6
_Part = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, slots=True, eq=False)
class AugmentParameters:
    """How each picture of a batch is shown. A slice of it is for the same slice of the batch.

    Attributes:
        boxes: (B, 4) top, left, height and width of the piece, in pixels.
        flipped: (B,) whether it is mirrored left to right.
        saturation: (B,) factor of the truth's chroma.
        exposure: (B,) factor of the code values of grey and truth.
        side: Height and width, in pixels, that all pieces are brought to.
    """

    boxes: NDArray[np.int64]
    flipped: NDArray[np.bool_]
    saturation: NDArray[np.float32]
    exposure: NDArray[np.float32]
    side: int

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, part: slice) -> "AugmentParameters":
        return AugmentParameters(self.boxes[part], self.flipped[part], self.saturation[part], self.exposure[part], self.side)


class Augment(BaseModel):
    """How pictures are changed each time they are shown, so that a network learns from more of them than there are.

    Grey and truth are changed alike. By default nothing is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    flip: bool = False
    """Mirror half of them left to right."""
    crop: Count | Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Height and width, in pixels, that the piece of a picture is brought to; the dataset's size by default. Of several, such
    as [128, 192, 256], each step takes one, by chance, so that a network learns to see things small and large."""
    scale: Annotated[tuple[_Part, _Part], ASCENDING] = _NONE
    """The share of a picture's area that the piece has, such as [0.35, 1]."""
    aspect: FactorSpan = _NONE
    """The width of the piece over its height before it is brought to the square, such as [0.75, 1.33]; what reaches beyond
    the picture is cut off."""
    saturation: FactorSpan = _NONE
    """A factor of the truth's chroma, at the same luma and within the gamut, such as [1, 1.3]."""
    exposure: FactorSpan = _NONE
    """A factor of the values of grey and truth, up to white, such as [0.9, 1.1]."""

    def __call__(self, grey: Tensor, rgb: Tensor, chances: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw and apply: grey (B, 1, S, S) and RGB (B, 3, S, S), float32 in 0..1; see `apply`."""
        return self.apply(grey, rgb, self.draw(len(grey), grey.shape[-1], chances))

    def draw(self, count: int, size: int, chances: np.random.Generator) -> AugmentParameters:
        """Draw how each of `count` pictures of `size` x `size` pixels is shown.

        The piece is drawn as by RandomResizedCrop (Szegedy et al. 2015): its area uniformly, its aspect so that w : h is as
        likely as h : w, its place uniformly. The generator is asked for the same numbers whatever the options are.
        """
        area, shape, down, right = (chances.random(count) for _ in range(4))
        flipped = chances.random(count) < 0.5
        saturation, exposure = (_between(span, chances.random(count)) for span in (self.saturation, self.exposure))
        side, stretch = size * np.sqrt(_between(self.scale, area)), np.exp(_between(np.log(self.aspect), shape) / 2)
        height, width = (np.clip(np.rint(pixels), 1, size) for pixels in (side / stretch, side * stretch))
        sides = self.sides(size)
        chosen = sides[int(chances.random() * len(sides))]
        top, left = np.floor(down * (size - height + 1)), np.floor(right * (size - width + 1))
        return AugmentParameters(
            np.stack([top, left, height, width], axis=1).astype(np.int64),
            flipped & self.flip,
            saturation.astype(np.float32),
            exposure.astype(np.float32),
            chosen,
        )

    def sides(self, size: int) -> tuple[int, ...]:
        """All sizes that pieces of pictures of `size` x `size` pixels may be brought to."""
        if self.crop is None:
            return (size,)
        return self.crop if isinstance(self.crop, tuple) else (self.crop,)

    def apply(self, grey: Tensor, rgb: Tensor, drawn: AugmentParameters) -> tuple[Tensor, Tensor]:
        """Show pictures as was drawn.

        Args:
            grey: (B, 1, S, S), float32 in 0..1, on any device.
            rgb: (B, 3, S, S), the same.
            drawn: Of B pictures.

        Returns:
            Both at `drawn.side` x `drawn.side`, channels last; resizing is bilinear and antialiased.
        """
        grey, rgb = _pieces(grey, drawn), _pieces(rgb, drawn)
        if (self.saturation, self.exposure) != (_NONE, _NONE):
            saturation, exposure = (_factors(each, grey.device) for each in (drawn.saturation, drawn.exposure))
            grey, rgb = (grey * exposure).clamp_(max=1), _lit(rgb, saturation, exposure)
        return grey, rgb.contiguous(memory_format=torch.channels_last)


def _between(span: Any, share: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(span[0] + (span[1] - span[0]) * share)


def _factors(each: NDArray[np.float32], device: torch.device) -> Tensor:
    return torch.from_numpy(each).to(device).view(-1, 1, 1, 1)


def _lit(rgb: Tensor, saturation: Tensor, exposure: Tensor) -> Tensor:
    """RGB with luma times exposure, up to white, and chroma times both, as far as the gamut goes: as `bwpipe.chroma.join`."""
    luma, _ = rgb_to_ycbcr(rgb)
    offset = (rgb - luma).mul_(exposure * saturation)
    luma = luma.mul_(exposure).clamp_(max=1)
    above, below = offset.amax(1, keepdim=True), -offset.amin(1, keepdim=True)
    room = torch.minimum((1 - luma) / above.clamp_(min=_TINY), luma / below.clamp_(min=_TINY))
    return offset.mul_(room.clamp_(max=1)).add_(luma).clamp_(0, 1)


def _pieces(pictures: Tensor, drawn: AugmentParameters) -> Tensor:
    """The pieces (B, C, `drawn.side`, `drawn.side`) of pictures (B, C, S, S), mirrored where they are to be."""
    from torchvision.transforms.v2.functional import crop, horizontal_flip, resize  # slow to import, and only training needs it

    side = drawn.side
    made = torch.empty((*pictures.shape[:2], side, side), device=pictures.device)  # channels first: resizing is faster so
    for out, picture, box, flipped in zip(made, pictures, drawn.boxes.tolist(), drawn.flipped.tolist(), strict=True):
        piece = crop(picture, *box).contiguous()
        if box[2:] != [side, side]:
            piece = resize(piece, [side, side], antialias=True)
        out.copy_(horizontal_flip(piece) if flipped else piece)
    return made
