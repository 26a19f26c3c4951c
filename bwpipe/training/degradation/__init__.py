"""Grey made to look like old film, which the network learns to see through."""

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from bwpipe.training.degradation.base import PlaneEffect, Share, uniform
from bwpipe.training.degradation.film_stock import Curve, Grain, Spectrum
from bwpipe.training.degradation.jpeg import Jpeg
from bwpipe.training.degradation.optics import Blur, Shrink, Vignette
from bwpipe.training.degradation.wear import Dust, Hairs, Scratches


class Degradation(BaseModel):
    """What befalls the grey that a network is shown, from the light that fell on old film to the file that was made of it.

    Each picture has its own kinds of damage, in strengths of its own, done in the order of the options. A kind is left out by
    `{chance: 0}`, such as `damage: {jpeg: {chance: 0}}`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    chance: Share = 0.8
    """The share of pictures that are damaged; the others are shown as they are."""
    spectrum: Spectrum = Spectrum()
    """The colours that the film sees."""
    vignette: Vignette = Vignette()
    """Dark corners."""
    blur: Blur = Blur()
    """A soft lens."""
    curve: Curve = Curve()
    """Tones: darker or lighter, harder or softer, faded or blown out."""
    grain: Grain = Grain()
    """Grain of the film."""
    dust: Dust = Dust()
    """Specks, light and dark."""
    hairs: Hairs = Hairs()
    """Hairs and fibres."""
    scratches: Scratches = Scratches()
    """Thin lines from top to bottom."""
    shrink: Shrink = Shrink()
    """Lost resolution."""
    jpeg: Jpeg = Jpeg()
    """The marks of JPEG."""

    def __call__(self, grey: Tensor, rgb: Tensor, generator: torch.Generator) -> Tensor:
        """What the network is shown.

        Args:
            grey: (B, 1, H, W), float32 in 0..1; left as it is.
            rgb: (B, 3, H, W), the truth, of which the spectrum is made.
            generator: On the same device; all that is random comes from it.

        Returns:
            (B, 1, H, W), float32 in 0..1.
        """
        kinds: list[Spectrum | PlaneEffect] = [getattr(self, name) for name in type(self).model_fields if name != "chance"]
        drawn = uniform((0, 1), (1 + len(kinds), len(grey)), generator).cpu()  # once: waiting for a GPU is slow
        shown = grey.clone()
        for kind, lot in zip(kinds, drawn[1:], strict=True):
            rows = ((drawn[0] < self.chance) & (lot < kind.chance)).nonzero().flatten().to(grey.device)
            if len(rows):
                some = shown[rows]
                made = kind.apply(some, rgb[rows], generator) if isinstance(kind, Spectrum) else kind.apply(some, generator)
                shown[rows] = made.clamp_(0, 1)
        return shown
