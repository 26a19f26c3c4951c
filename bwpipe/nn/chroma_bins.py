"""Chroma as a distribution over bins: bin centres, soft encoding, and decoding to chroma and confidence.

After Zhang, Isola and Efros, "Colorful Image Colorization" (ECCV 2016), on (Cb, Cr) instead of CIE ab.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from bwpipe.nn.ycbcr import offsets

STEP = 1 / 32
"""Distance between neighbouring bins; Cb and Cr range from -0.5 to 0.5."""
REACH = 0.75
"""The largest difference allowed between the highest and the lowest of a bin's red, green and blue."""
SPREAD = 0.1
"""The standard deviation of chroma at which confidence is 0.5: about the mean chroma of photographs."""


def bin_centres(step: float = STEP, reach: float = REACH) -> Tensor:
    """The bin centres: the points of a square grid that lie within the RGB cube at enough levels of luma.

    Chroma offsets red, green and blue from the luma. If the largest and the smallest offset differ by c, the chroma is in gamut
    over 1 - c of the range of luma. The defaults give 407 bins, including grey, each in gamut over at least a quarter of the
    range. `reach=1` would give all 723 that are in gamut anywhere, at nearly twice the cost; in 600 photographs, 0.4 % of the
    pixels lie beyond the default.

    Args:
        step: Distance between neighbouring bins.
        reach: The upper limit of c, in 0..1.

    Returns:
        (Q, 2) float32, Cb and Cr, ascending.
    """
    with torch.device("cpu"):  # their number depends on values, which the device `meta` does not have
        line = torch.arange(-int(0.5 / step), int(0.5 / step) + 1) * step
        points = torch.cartesian_prod(line, line)
        shifts = offsets(points)
        return points[shifts.amax(1) - shifts.amin(1) <= reach]


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """A sparse distribution over bins for each pixel, with at most nine non-zero shares.

    Attributes:
        places: (B, h, w, 9) int64, indices of bins; an index may occur more than once, and its shares add up.
        shares: (B, h, w, 9) float32, summing to 1.
    """

    places: Tensor
    shares: Tensor

    def dense(self, count: int) -> Tensor:
        """The dense distribution over `count` bins: (B, h, w, count) float32."""
        dense = self.shares.new_zeros(*self.shares.shape[:3], count)
        return dense.scatter_add_(3, self.places, self.shares)


class SoftEncoding(nn.Module):
    """Soft encoding: turns chroma into shares of the surrounding bins.

    Each colour is spread over the surrounding 3 x 3 grid points by quadratic B-splines. Their standard deviation is half a
    step, like the Gaussian of Zhang et al., but the mean of the distribution is exactly the colour, and no exponential is
    needed. The share of a grid point without a bin goes to the nearest bin.
    """

    step: float
    _nearest: Tensor

    def __init__(self, bins: Tensor) -> None:
        """Set up for bins (Q, 2), Cb and Cr in -0.5..0.5. Raises ValueError if they are not on a square grid with grey."""
        super().__init__()
        bins = bins.detach().float().cpu()
        values = torch.unique(bins[:, 0])  # ascending
        self.step = float(values[-1] - values[0]) / max(1, len(values) - 1)
        if not self.step or not torch.allclose(bins / self.step, (bins / self.step).round(), atol=0.01):
            raise ValueError("the bins do not lie on a square grid through (0, 0); use `bwpipe.nn.chroma_bins.bin_centres`")
        self._most = round(0.5 / self.step)
        line = torch.arange(-self._most, self._most + 1) * self.step
        nearest = torch.cdist(torch.cartesian_prod(line, line), bins).argmin(1)
        self.register_buffer("_nearest", nearest.view(len(line), len(line)), persistent=False)

    def forward(self, chroma: Tensor) -> Shares:
        """Encode chroma (B, 2, h, w)."""
        scaled = chroma.float() / self.step
        centre = scaled.round().clamp(-self._most, self._most)
        residual = (scaled - centre).clamp(-0.5, 0.5)
        splines = torch.stack([(0.5 - residual) ** 2 / 2, 0.75 - residual**2, (0.5 + residual) ** 2 / 2], dim=-1)
        neighbours = centre.long().unsqueeze(-1) + torch.arange(-1, 2, device=chroma.device)
        rows, columns = (neighbours.clamp(-self._most, self._most) + self._most).unbind(1)
        blue, red = splines.unbind(1)
        places = self._nearest[rows.unsqueeze(-1), columns.unsqueeze(-2)]
        return Shares(places.flatten(3), (blue.unsqueeze(-1) * red.unsqueeze(-2)).flatten(3))


def annealed_mean(logits: Tensor, bins: Tensor, temperature: float | Tensor) -> Tensor:
    """Decode a distribution to chroma by the annealed mean (Zhang et al. 2016, equation 5); differentiable.

    Args:
        logits: (B, Q, h, w), fastest with channels last.
        bins: (Q, 2).
        temperature: Above 0. At 1 it gives the mean, which is safe and pale; towards 0 the most likely bin, which is vivid
            and patchy. The paper uses 0.38.

    Returns:
        (B, 2, h, w) float32.
    """
    return _mean(logits.float() / temperature, bins.float())


def confidence(logits: Tensor, bins: Tensor) -> Tensor:
    """Confidence of a distribution: s^2 / (s^2 + v), where v is its variance and s is `SPREAD`.

    It is 1 if one colour is certain, and 0.5 if the candidates deviate by a typical chroma. Several reds lower it little and
    "red or blue" a lot, which entropy can't distinguish. As averages are best weighted by inverse variances, it can be used
    directly as the weight of a pixel's chroma. It does not depend on the temperature.

    Args:
        logits: (B, Q, h, w), fastest with channels last.
        bins: (Q, 2).

    Returns:
        (B, 1, h, w) float32 in 0..1.
    """
    bins = bins.float()
    moments = _mean(logits.float(), torch.cat([bins, bins.square().sum(1, keepdim=True)], dim=1))
    variance = moments[:, 2:] - moments[:, :2].square().sum(1, keepdim=True)
    return SPREAD**2 / (SPREAD**2 + variance.clamp(min=0))


def _mean(logits: Tensor, values: Tensor) -> Tensor:
    """The mean (B, C, h, w) of values (Q, C) under the distributions given by logits (B, Q, h, w)."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return _traced_mean(logits, values)
    with torch.autocast(logits.device.type, enabled=False):
        columns = values.T.contiguous()  # on a CPU, the product with strided columns takes five times as long
        return linear(logits.permute(0, 2, 3, 1).softmax(-1), columns).permute(0, 3, 1, 2)


def _traced_mean(logits: Tensor, values: Tensor) -> Tensor:
    """The same for OpenVINO, which then takes a tenth less time for all of `unet`; torch's gradient would take thrice as long.

    One convolution adds up the shares, not yet divided by their sum, and the values by shares: nothing is transposed.
    """
    shares = (logits - logits.amax(1, keepdim=True)).exp()
    sums = conv2d(shares, torch.cat([values, torch.ones_like(values[:, :1])], dim=1).T[..., None, None])
    return sums[:, :-1] / sums[:, -1:]
