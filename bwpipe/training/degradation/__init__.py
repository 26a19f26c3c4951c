"""Degradations that make the grey input look like old film, so that the network learns to cope with it."""

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from bwpipe.training.degradation.base import PlaneEffect, Share, uniform
from bwpipe.training.degradation.film_stock import Curve, Grain, Spectrum
from bwpipe.training.degradation.jpeg import Jpeg
from bwpipe.training.degradation.optics import Blur, Shrink, Vignette
from bwpipe.training.degradation.wear import Dust, Hairs, Scratches


class Degradation(BaseModel):
    """Degradation model for the grey input: film stock, optics, wear, compression.

    The effects and their strengths are drawn for each image; they are applied in the order of the options. `{chance: 0}`
    disables an effect, such as `damage: {jpeg: {chance: 0}}`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chance: Share = 0.8
    """Fraction of images that are degraded; the others are used unchanged."""
    spectrum: Spectrum = Spectrum()
    """Spectral sensitivity of the film."""
    vignette: Vignette = Vignette()
    """Dark corners."""
    blur: Blur = Blur()
    """Blur of a soft lens."""
    curve: Curve = Curve()
    """Tone curve: darker or lighter, harder or softer, faded or blown out."""
    grain: Grain = Grain()
    """Film grain."""
    dust: Dust = Dust()
    """Light and dark specks of dust."""
    hairs: Hairs = Hairs()
    """Hairs and fibres."""
    scratches: Scratches = Scratches()
    """Thin vertical scratches."""
    shrink: Shrink = Shrink()
    """Lost resolution."""
    jpeg: Jpeg = Jpeg()
    """JPEG artefacts."""

    def __call__(self, grey: Tensor, rgb: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade the network's input.

        Args:
            grey: (B, 1, H, W), float32 in 0..1; not modified.
            rgb: (B, 3, H, W), the target, from which `spectrum` is computed.
            generator: On the same device; the only source of randomness.

        Returns:
            (B, 1, H, W), float32 in 0..1.
        """
        effects: list[Spectrum | PlaneEffect] = [getattr(self, name) for name in type(self).model_fields if name != "chance"]
        # to choose images by numbers of a GPU would wait until it has done all that it was given before
        host = generator if grey.device.type == "cpu" else torch.Generator().manual_seed(generator.initial_seed())
        drawn = uniform((0, 1), (1 + len(effects), len(grey)), host)
        degraded = grey.clone()
        for effect, chance in zip(effects, drawn[1:], strict=True):
            rows = ((drawn[0] < self.chance) & (chance < effect.chance)).nonzero().flatten().to(grey.device)
            if len(rows):
                selected = degraded[rows]
                output = (
                    effect.apply(selected, rgb[rows], generator)
                    if isinstance(effect, Spectrum)
                    else effect.apply(selected, generator)
                )
                degraded[rows] = output.clamp_(0, 1)
        return degraded
