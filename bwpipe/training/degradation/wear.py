"""What years and projectors do to a picture: dust, hairs, scratches."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bwpipe.training.degradation.base import LengthSpan, PlaneEffect, Share, ShareSpan, normal, uniform

_GRID = 3
"""Pixels from one speck's place to the next."""
_BASE = 0.4
"""How much of a speck's cone is cut off, so that high ones are wide and dense, and low ones small and faint."""
_MOST = 3
"""Lines in a picture."""
_NODES = 8
"""Along a scratch, where its waver and its strength change."""


class Dust(PlaneEffect):
    """Specks, light and dark."""

    chance: Share = 0.25
    """The share of the damaged pictures that have it."""
    density: ShareSpan = (0.001, 0.01)
    """How many there are at each place of a grid of 3 x 3 pixels."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Put specks on the pictures."""
        count, _, height, width = grey.shape
        grid = (count, 1, -(-height // _GRID), -(-width // _GRID))
        specks = uniform((0, 1), grid, generator) < uniform(self.density, (count, 1, 1, 1), generator)
        heights = specks * uniform((0.5, 1.5), grid, generator) * uniform((-1, 1), grid, generator).sign()
        cones = interpolate(heights, (height, width), mode="bilinear", align_corners=False)
        return _marked(grey, (cones - _BASE).clamp(0, 1), (-cones - _BASE).clamp(0, 1))  # the cones' tops


class Scratches(PlaneEffect):
    """Thin lines from top to bottom, light or dark, that waver and break off."""

    chance: Share = 0.15
    """The share of the damaged pictures that have it."""
    width: LengthSpan = (0.4, 1.4)
    """In pixels."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Put one to three scratches on each picture."""
        count, _, height, width = grey.shape
        each = (count, _MOST, 1, 1)
        down = torch.linspace(-0.5, 0.5, height, device=grey.device).view(height, 1)
        lean, waver = uniform((-4, 4), each, generator), uniform((0, 1), each, generator)
        middle = (
            uniform((0, width), each, generator)
            + lean * down
            + waver * _drift(normal((count, _MOST, _NODES), generator), height)
        )
        there = _drift(uniform((-0.6, 1.4), (count, _MOST, _NODES), generator), height).clamp(0, 1)
        across = torch.arange(width, device=grey.device) + 0.5
        cover = _line(across - middle, uniform(self.width, each, generator)) * there
        return _lined(grey, cover, generator)


class Hairs(PlaneEffect):
    """Curved thin lines, light or dark, of hairs and fibres in the printer or the scanner."""

    chance: Share = 0.1
    """The share of the damaged pictures that have it."""
    length: ShareSpan = (0.1, 0.4)
    """As a share of the picture's width."""
    width: LengthSpan = (0.4, 1.2)
    """In pixels."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Put one to three hairs on each picture."""
        count, _, height, width = grey.shape
        each = (count, _MOST, 1, 1)
        down = torch.arange(height, device=grey.device).view(height, 1) + 0.5 - uniform((0, height), each, generator)
        right = torch.arange(width, device=grey.device) + 0.5 - uniform((0, width), each, generator)
        turn = uniform((0, torch.pi), each, generator)
        half = (uniform(self.length, each, generator) * width / 2).clamp_(min=0.5)
        along, off = torch.cos(turn) * right + torch.sin(turn) * down, torch.cos(turn) * down - torch.sin(turn) * right
        share = along / half
        bend = uniform((-0.5, 0.5), each, generator) * share**2 + uniform((-0.3, 0.3), each, generator) * share**3
        cover = _line(off - half * bend, uniform(self.width, each, generator)) * (half + 0.5 - along.abs()).clamp(0, 1)
        return _lined(grey, cover, generator)


def _drift(nodes: Tensor, height: int) -> Tensor:
    """A value for each row (N, K, H, 1) between those of some nodes (N, K, M)."""
    return interpolate(nodes, height, mode="linear", align_corners=True).unsqueeze(-1)


def _line(distance: Tensor, width: Tensor) -> Tensor:
    """How much of each pixel a line covers, whose middle is so far away."""
    return torch.minimum(width, (width / 2 + 0.5 - distance.abs()).clamp(min=0)).clamp(max=1)


def _lined(grey: Tensor, cover: Tensor, generator: torch.Generator) -> Tensor:
    """Grey (N, 1, H, W) with one to all of lines (N, K, H, W), each light or dark."""
    each = (*cover.shape[:2], 1, 1)
    number = torch.arange(_MOST, device=grey.device).view(1, _MOST, 1, 1)
    there = number < uniform((0, _MOST), (len(grey), 1, 1, 1), generator)
    light = uniform((0, 1), each, generator) < 0.6
    cover = cover * uniform((0.3, 1), each, generator) * there
    return _marked(grey, (cover * light).amax(1, keepdim=True), (cover * ~light).amax(1, keepdim=True))


def _marked(grey: Tensor, light: Tensor, dark: Tensor) -> Tensor:
    """Grey with some light and some dark in front of it, each a share (N, 1, H, W) of the pixel."""
    return grey * (1 - light) * (1 - dark) + light
