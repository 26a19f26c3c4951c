"""Effects of age and projection: dust, hairs, scratches."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bwpipe.training.degradation.base import LengthSpan, PlaneEffect, Share, ShareSpan, normal, uniform

_GRID = 3
"""Grid spacing of possible specks, in pixels."""
_CUT = 0.4
"""Height at which a speck's cone is cut off, so that high cones give wide, dense specks and low ones small, faint specks."""
_MAX_LINES = 3
"""Maximum number of lines in an image."""
_NODES = 8
"""Points along a scratch at which its wobble and its strength change."""


class Dust(PlaneEffect):
    """Light and dark specks of dust."""

    chance: Share = 0.25
    """Fraction of the degraded images that have it."""
    density: ShareSpan = (0.001, 0.01)
    """Range of the probability of a speck in each 3 x 3 pixel cell."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Add specks."""
        count, _, height, width = grey.shape
        grid = (count, 1, -(-height // _GRID), -(-width // _GRID))
        specks = uniform((0, 1), grid, generator) < uniform(self.density, (count, 1, 1, 1), generator)
        heights = specks * uniform((0.5, 1.5), grid, generator) * uniform((-1, 1), grid, generator).sign()
        cones = interpolate(heights, (height, width), mode="bilinear", align_corners=False)
        return _overlay(grey, (cones - _CUT).clamp(0, 1), (-cones - _CUT).clamp(0, 1))  # the tops of the cones


class Scratches(PlaneEffect):
    """Thin vertical lines, light or dark, that wobble and break off."""

    chance: Share = 0.15
    """Fraction of the degraded images that have it."""
    width: LengthSpan = (0.4, 1.4)
    """Range of the line width, in pixels."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Add one to three scratches to each image."""
        count, _, height, width = grey.shape
        each = (count, _MAX_LINES, 1, 1)
        down = torch.linspace(-0.5, 0.5, height, device=grey.device).view(height, 1)
        slope, wobble = uniform((-4, 4), each, generator), uniform((0, 1), each, generator)
        middle = (
            uniform((0, width), each, generator)
            + slope * down
            + wobble * _interpolate_rows(normal((count, _MAX_LINES, _NODES), generator), height)
        )
        visible = _interpolate_rows(uniform((-0.6, 1.4), (count, _MAX_LINES, _NODES), generator), height).clamp(0, 1)
        across = torch.arange(width, device=grey.device) + 0.5
        coverage = _line_coverage(across - middle, uniform(self.width, each, generator)) * visible
        return _draw_lines(grey, coverage, generator)


class Hairs(PlaneEffect):
    """Thin curved lines, light or dark, from hairs and fibres in the printer or scanner."""

    chance: Share = 0.1
    """Fraction of the degraded images that have it."""
    length: ShareSpan = (0.1, 0.4)
    """Range of the length, as a fraction of the image's width."""
    width: LengthSpan = (0.4, 1.2)
    """Range of the line width, in pixels."""

    def apply(self, grey: Tensor, generator: torch.Generator) -> Tensor:
        """Add one to three hairs to each image."""
        count, _, height, width = grey.shape
        each = (count, _MAX_LINES, 1, 1)
        down = torch.arange(height, device=grey.device).view(height, 1) + 0.5 - uniform((0, height), each, generator)
        right = torch.arange(width, device=grey.device) + 0.5 - uniform((0, width), each, generator)
        angle = uniform((0, torch.pi), each, generator)
        half = (uniform(self.length, each, generator) * width / 2).clamp_(min=0.5)
        along, off = torch.cos(angle) * right + torch.sin(angle) * down, torch.cos(angle) * down - torch.sin(angle) * right
        share = along / half
        bend = uniform((-0.5, 0.5), each, generator) * share**2 + uniform((-0.3, 0.3), each, generator) * share**3
        coverage = _line_coverage(off - half * bend, uniform(self.width, each, generator)) * (half + 0.5 - along.abs()).clamp(
            0, 1
        )
        return _draw_lines(grey, coverage, generator)


def _interpolate_rows(nodes: Tensor, height: int) -> Tensor:
    """Values of nodes (N, K, M) interpolated to each row (N, K, H, 1)."""
    return interpolate(nodes, height, mode="linear", align_corners=True).unsqueeze(-1)


def _line_coverage(distance: Tensor, width: Tensor) -> Tensor:
    """The coverage of each pixel by a line, given the distance to the line's centre."""
    return torch.minimum(width, (width / 2 + 0.5 - distance.abs()).clamp(min=0)).clamp(max=1)


def _draw_lines(grey: Tensor, coverage: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one to all of the lines (N, K, H, W), each light or dark, over grey (N, 1, H, W)."""
    each = (*coverage.shape[:2], 1, 1)
    number = torch.arange(_MAX_LINES, device=grey.device).view(1, _MAX_LINES, 1, 1)
    visible = number < uniform((0, _MAX_LINES), (len(grey), 1, 1, 1), generator)
    light = uniform((0, 1), each, generator) < 0.6
    coverage = coverage * uniform((0.3, 1), each, generator) * visible
    return _overlay(grey, (coverage * light).amax(1, keepdim=True), (coverage * ~light).amax(1, keepdim=True))


def _overlay(grey: Tensor, light: Tensor, dark: Tensor) -> Tensor:
    """Grey overlaid with light and dark marks, each a coverage (N, 1, H, W)."""
    return grey * (1 - light) * (1 - dark) + light
