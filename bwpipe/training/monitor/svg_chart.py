"""A line chart in HTML: an SVG that stretches with the page, with labels of fixed size beside it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10
from statistics import fmean, median
from typing import Literal

LOG_THRESHOLD = 8.0
"""The scale is logarithmic if the maximum exceeds this multiple of the median: most of a linear curve would be flat."""

LOG_RANGE = 1e-9
"""Minimum of a logarithmic scale, relative to the maximum; smaller values are drawn at its lower end."""


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis scale from `low` to `high`.

    Attributes:
        low: The value at the lower end.
        high: The value at the upper end, greater than `low`.
        log: Whether the scale is logarithmic.
    """

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float]) -> "Scale":
        """A scale for all of these values (at least one), with some margin at both ends."""
        low, high = min(values), max(values)
        if low > 0 and high > LOG_THRESHOLD * median(values):
            low = max(low, high * LOG_RANGE)
            room = (high / low) ** 0.04
            return cls(low / room, high * room, log=True)
        room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
        return cls(low - room, high + room)

    def position(self, value: float) -> float:
        """The position of a value: 0 at the lower end, 1 at the upper."""
        if self.log:
            value = max(value, self.low)  # noise may reach 0
            return log10(value / self.low) / log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, count: int) -> list[float]:
        """About `count` round values on the scale, ascending."""
        if self.log:
            exponents = range(floor(log10(self.low)), ceil(log10(self.high)))
            for factors in ((1, 2, 5), (1, 3), (1,)):
                found = [factor * 10.0**exponent for exponent in exponents for factor in factors]
                marks = [value for value in found if self.low <= value <= self.high]
                if len(marks) <= count + 1:
                    return marks
            return marks[:: ceil(len(marks) / count)]
        rough = (self.high - self.low) / count
        unit = 10.0 ** floor(log10(rough))
        step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= 0.75 * rough)
        return [i * step for i in range(ceil(self.low / step), floor(self.high / step) + 1)]


def number(value: float) -> str:
    """A number in readable form: 0.0123, 12,345, 1e-5."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return re.sub(r"e([-+])0+", r"e\1", f"{value:.4g}")


Points = Sequence[tuple[float, float]]
"""Pairs of step and value, ordered by step."""

BANDS = 60
"""Number of vertical bands of a chart; each shows its values in a tooltip."""
REACH = 12
"""Points on each side over which a noisy curve is averaged."""
SIDE = 1000
"""Width and height of a chart in its own units, which are stretched to the space on the page."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart.

    Attributes:
        name: Its name in the legend.
        points: Its points; values that are not finite are left out.
        kind: "measured" curves, with occasional points, are drawn as joined dots, "noisy" ones faintly behind their moving
            mean, "exact" ones as a line.
    """

    name: str
    points: Points
    kind: Literal["measured", "noisy", "exact"]


def chart(title: str, curves: Sequence[Curve], end: float) -> str:
    """A `figure` element of curves over the steps 0 to `end`; empty if no value is finite."""
    curves = [Curve(c.name, [(x, y) for x, y in c.points if isfinite(y)], c.kind) for c in curves]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return ""
    x_scale = Scale(0, end * 1.01)
    y_scale = Scale.around([y for curve in curves for y in _visible_values(curve)])
    keys = "".join(f'<span class="key c{i % 6}">{escape(curve.name)}</span>' for i, curve in enumerate(curves))
    how = " <small>logarithmic</small>" if y_scale.log else ""
    y_labels = [(1 - y_scale.position(tick), number(tick)) for tick in y_scale.ticks(5)]
    x_labels = [(x_scale.position(tick), number(tick)) for tick in x_scale.ticks(5)]
    elements = [f'<path class="grid" d="M0 {SIDE * y:.1f}H{SIDE}"/>' for y, _ in y_labels]
    elements += [_lines(curve, i % 6, x_scale, y_scale) for i, curve in enumerate(curves)]
    elements += _bands(curves, x_scale)
    return "\n".join(
        [
            f"<figure><figcaption><b>{escape(title)}</b>{how}{keys}</figcaption>",
            '<div class="plot">',
            *(f'<span class="y" style="top:{y:.1%}">{text}</span>' for y, text in y_labels),
            *(f'<span class="x" style="left:{x:.1%}">{text}</span>' for x, text in x_labels),
            f'<svg viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none" role="img">',
            f"<title>{escape(title)} by step</title>",
            *elements,
            "</svg></div></figure>",
        ]
    )


def _smooth(points: Points) -> Points:
    """The moving mean, over fewer points at the start, where a loss falls fast."""
    values = [y for _, y in points]
    reach = [min(i, REACH) for i in range(len(points))]
    return [(x, fmean(values[i - reach[i] : i + reach[i] + 1])) for i, (x, _) in enumerate(points)]


def _visible_values(curve: Curve) -> list[float]:
    """The values that must be visible: all but the outliers of a noisy curve."""
    values = sorted(y for _, y in curve.points)
    if curve.kind != "noisy":
        return values
    outliers = len(values) // 100
    return values[outliers : len(values) - outliers] + [y for _, y in _smooth(curve.points)]


def _lines(curve: Curve, colour: int, x_scale: Scale, y_scale: Scale) -> str:
    def path(points: Points) -> list[str]:
        return [f"{SIDE * x_scale.position(x):.1f} {SIDE * (1 - y_scale.position(y)):.1f}" for x, y in points]

    places = path(curve.points)
    line = f'<path class="line c{colour}" d="M{"L".join(places)}"/>'
    if curve.kind == "measured":
        dots = "".join(f"M{position}h0" for position in places)  # zero-length lines: their round caps are not stretched
        return f'{line}<path class="dots c{colour}" d="{dots}"/>'
    if curve.kind == "noisy":
        smooth = path(_smooth(curve.points))
        return f'<path class="raw c{colour}" d="M{"L".join(places)}"/><path class="line c{colour}" d="M{"L".join(smooth)}"/>'
    return line


def _bands(curves: Sequence[Curve], x_scale: Scale) -> list[str]:
    """The tooltips: for each band the last values in it."""
    texts: dict[int, list[str]] = {}
    for curve in curves:
        last = {int(x_scale.position(x) * BANDS): (x, y) for x, y in curve.points}
        for band, (x, y) in last.items():
            texts.setdefault(band, []).append(f"{curve.name}: {number(y)} at step {number(x)}")
    width = SIDE / BANDS
    return [
        f'<rect class="band" x="{band * width:.1f}" y="0" width="{width:.1f}" height="{SIDE}">'
        f"<title>{escape(chr(10).join(lines))}</title></rect>"
        for band, lines in sorted(texts.items())
    ]
