"""Random augmentation, applied identically to the grey input and the colour target."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from bwpipe.core.stage import Count
from bwpipe.nn.ycbcr import add_offsets, rgb_to_ycbcr
from bwpipe.training.degradation.base import ASCENDING, FactorSpan

_NONE = (1.0, 1.0)
_Fraction = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, slots=True, eq=False)
class AugmentParameters:
    """The augmentation drawn for each image of a batch. A slice of it belongs to the same slice of the batch.

    Attributes:
        boxes: (B, 4) top, left, height and width of the crop, in pixels.
        flipped: (B,) whether it is mirrored left to right.
        saturation: (B,) factor applied to the target's chroma.
        exposure: (B,) factor applied to the code values of input and target.
        side: Height and width, in pixels, to which all crops are resized.
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
    """Random changes to the photographs each time they are used, which enlarge the effective training set.

    The grey input and the colour target are changed alike. By default nothing is changed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: bool = False
    """Mirror half of the photographs left to right."""
    crop: Count | Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Height and width, in pixels, to which each crop is resized; by default the dataset's size. With several, such as
    [128, 192, 256], each step picks one at random, so that the network learns objects at several scales."""
    scale: Annotated[tuple[_Fraction, _Fraction], ASCENDING] = _NONE
    """Range of the crop's area as a fraction of the photograph's, such as [0.35, 1]."""
    aspect: FactorSpan = _NONE
    """Range of the crop's width / height before it is resized to a square, such as [0.75, 1.33]; limited to what fits in the
    photograph."""
    saturation: FactorSpan = _NONE
    """Range of the factor applied to the target's chroma, at unchanged luma and within the gamut, such as [1, 1.3]."""
    exposure: FactorSpan = _NONE
    """Range of the factor applied to the values of input and target, clipped at white, such as [0.9, 1.1]."""

    def __call__(self, grey: Tensor, rgb: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw and apply: grey (B, 1, S, S) and RGB (B, 3, S, S), float32 in 0..1; see `apply`."""
        return self.apply(grey, rgb, self.draw(len(grey), grey.shape[-1], rng))

    def draw(self, count: int, size: int, rng: np.random.Generator) -> AugmentParameters:
        """Draw the augmentation of `count` images of `size` x `size` pixels.

        Crops are drawn as by RandomResizedCrop (Szegedy et al. 2015): area uniform, aspect ratio log-uniform (w : h is as
        likely as h : w), position uniform. The options do not affect how many random numbers are drawn.
        """
        area, shape, down, right = (rng.random(count) for _ in range(4))
        flipped = rng.random(count) < 0.5
        saturation, exposure = (_interpolate(span, rng.random(count)) for span in (self.saturation, self.exposure))
        side, stretch = size * np.sqrt(_interpolate(self.scale, area)), np.exp(_interpolate(np.log(self.aspect), shape) / 2)
        height, width = (np.clip(np.rint(pixels), 1, size) for pixels in (side / stretch, side * stretch))
        sides = self.sides(size)
        chosen = sides[int(rng.random() * len(sides))]
        top, left = np.floor(down * (size - height + 1)), np.floor(right * (size - width + 1))
        return AugmentParameters(
            np.stack([top, left, height, width], axis=1).astype(np.int64),
            flipped & self.flip,
            saturation.astype(np.float32),
            exposure.astype(np.float32),
            chosen,
        )

    def sides(self, size: int) -> tuple[int, ...]:
        """All sizes to which crops of images of `size` x `size` pixels may be resized."""
        if self.crop is None:
            return (size,)
        return self.crop if isinstance(self.crop, tuple) else (self.crop,)

    def apply(self, grey: Tensor, rgb: Tensor, drawn: AugmentParameters) -> tuple[Tensor, Tensor]:
        """Apply augmentations that were drawn earlier.

        Args:
            grey: (B, 1, S, S), float32 in 0..1, on any device.
            rgb: (B, 3, S, S), likewise.
            drawn: The parameters of B images.

        Returns:
            Both at `drawn.side` x `drawn.side`, channels last; resizing is bilinear and antialiased.
        """
        grey, rgb = _crops(grey, drawn), _crops(rgb, drawn)
        if (self.saturation, self.exposure) != (_NONE, _NONE):
            saturation, exposure = (_per_image(each, grey.device) for each in (drawn.saturation, drawn.exposure))
            grey, rgb = (grey * exposure).clamp_(max=1), _adjust_colour(rgb, saturation, exposure)
        return grey, rgb.contiguous(memory_format=torch.channels_last)


def _interpolate(span: Any, share: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(span[0] + (span[1] - span[0]) * share)


def _per_image(each: NDArray[np.float32], device: torch.device) -> Tensor:
    return torch.from_numpy(each).to(device).view(-1, 1, 1, 1)


def _adjust_colour(rgb: Tensor, saturation: Tensor, exposure: Tensor) -> Tensor:
    """RGB with luma times exposure, clipped at white, and chroma times both, scaled into the gamut as by `ycbcr_to_rgb`."""
    luma, _ = rgb_to_ycbcr(rgb)
    offset = (rgb - luma).mul_(exposure * saturation)
    return add_offsets(luma.mul_(exposure).clamp_(max=1), offset)


def _crops(images: Tensor, drawn: AugmentParameters) -> Tensor:
    """The crops (B, C, `drawn.side`, `drawn.side`) of images (B, C, S, S), mirrored where drawn."""
    return crop_each(images, drawn) if images.device.type == "cpu" else crop_at_once(images, drawn)


def crop_each(images: Tensor, drawn: AugmentParameters) -> Tensor:
    """Crop, resize and mirror one image after the other, which is faster on a CPU; see `crop_at_once`."""
    from torchvision.transforms.v2.functional import crop, horizontal_flip, resize  # slow to import; only needed for training

    side = drawn.side
    crops = torch.empty((*images.shape[:2], side, side), device=images.device)  # channels first: faster to resize
    for out, image, box, flipped in zip(crops, images, drawn.boxes.tolist(), drawn.flipped.tolist(), strict=True):
        cropped = crop(image, *box).contiguous()
        if box[2:] != [side, side]:
            cropped = resize(cropped, [side, side], antialias=True)
        out.copy_(horizontal_flip(cropped) if flipped else cropped)
    return crops


def crop_at_once(images: Tensor, drawn: AugmentParameters) -> Tensor:
    """Crop, resize and mirror all images with a few products of matrices: a GPU would wait for hundreds of small operations.

    Args:
        images: (B, C, S, S).
        drawn: The parameters of B images.

    Returns:
        (B, C, `drawn.side`, `drawn.side`), bilinear and antialiased.
    """
    boxes = torch.from_numpy(drawn.boxes).to(images.device, torch.float32)
    flipped = torch.from_numpy(drawn.flipped).to(images.device)
    size = images.shape[-1]
    rows = _resampling(boxes[:, 0], boxes[:, 2], drawn.side, size)
    columns = _resampling(boxes[:, 1], boxes[:, 3], drawn.side, size)
    columns = torch.where(flipped[:, None, None], columns.flip(1), columns)
    return rows.unsqueeze(1) @ images.contiguous() @ columns.transpose(1, 2).unsqueeze(1)


def _resampling(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """The shares (B, `side`, `size`) of each source pixel in each pixel of a row that is cropped and resized.

    A triangle as wide as two pixels of the coarser of both grids, cut off at the borders of the crop, normalised to a sum of 1.
    """
    start, length = start[:, None, None], length[:, None, None]
    scale = length / side
    centres = start + (torch.arange(side, device=start.device)[:, None] + 0.5) * scale
    pixels = torch.arange(size, device=start.device) + 0.5
    shares = (1 - (pixels - centres).abs() / scale.clamp(min=1)).clamp(min=0)
    shares = shares * ((pixels > start) & (pixels < start + length))
    return shares / shares.sum(2, keepdim=True)
