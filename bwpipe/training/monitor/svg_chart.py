"""A line chart in HTML: an SVG that stretches with the page, and letters beside it that keep their size."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10
from statistics import fmean, median
from typing import Literal

SQUASHED = 8.0
"""How many times the median the highest value must be for the scale to be logarithmic: most of a curve would lie flat."""

LEAST = 1e-9
"""The least that a logarithmic scale shows, as a share of the highest value; what is less lies at its lower end."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From `low` to `high`.

    Attributes:
        low: The value at the lower end.
        high: The value at the upper end, greater.
        log: Whether equal lengths are equal factors.
    """

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float]) -> "Scale":
        """The scale that shows all these values, of which there is one at least, with a little room at both ends."""
        low, high = min(values), max(values)
        if low > 0 and high > SQUASHED * median(values):
            low = max(low, high * LEAST)
            room = (high / low) ** 0.04
            return cls(low / room, high * room, log=True)
        room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
        return cls(low - room, high + room)

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the lower end, 1 at the upper."""
        if self.log:
            value = max(value, self.low)  # noise may reach 0
            return log10(value / self.low) / log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, count: int) -> list[float]:
        """Round values on the scale, about `count` of them, ascending."""
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
    """A number as one reads it: 0.0123, 12,345, 1e-5."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return re.sub(r"e([-+])0+", r"e\1", f"{value:.4g}")


Points = Sequence[tuple[float, float]]
"""Steps and values, by step."""

BANDS = 60
"""Into how many upright bands a chart is divided, each of which tells its values where the mouse is over it."""
REACH = 12
"""How many points to each side a noisy curve is averaged over."""
SIDE = 1000
"""Width and height of a chart in its own units, which are stretched to what the page has."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart.

    Attributes:
        name: What the legend says.
        points: Those whose values are not finite are left out.
        kind: Those that are "measured" now and then are drawn as dots that are joined, "noisy" ones faintly behind their
            moving mean, "exact" ones as a line.
    """

    name: str
    points: Points
    kind: Literal["measured", "noisy", "exact"]


def chart(title: str, curves: Sequence[Curve], end: float) -> str:
    """A `figure` of curves over the steps 0 to `end`; none at all where no value is finite."""
    curves = [Curve(c.name, [(x, y) for x, y in c.points if isfinite(y)], c.kind) for c in curves]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return ""
    across = Scale(0, end * 1.01)
    upright = Scale.around([y for curve in curves for y in _seen(curve)])
    keys = "".join(f'<span class="key c{i % 6}">{escape(curve.name)}</span>' for i, curve in enumerate(curves))
    how = " <small>logarithmic</small>" if upright.log else ""
    down = [(1 - upright.place(tick), number(tick)) for tick in upright.ticks(5)]
    along = [(across.place(tick), number(tick)) for tick in across.ticks(5)]
    inside = [f'<path class="grid" d="M0 {SIDE * y:.1f}H{SIDE}"/>' for y, _ in down]
    inside += [_lines(curve, i % 6, across, upright) for i, curve in enumerate(curves)]
    inside += _bands(curves, across)
    return "\n".join(
        [
            f"<figure><figcaption><b>{escape(title)}</b>{how}{keys}</figcaption>",
            '<div class="plot">',
            *(f'<span class="y" style="top:{y:.1%}">{text}</span>' for y, text in down),
            *(f'<span class="x" style="left:{x:.1%}">{text}</span>' for x, text in along),
            f'<svg viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none" role="img">',
            f"<title>{escape(title)} by step</title>",
            *inside,
            "</svg></div></figure>",
        ]
    )


def _smooth(points: Points) -> Points:
    """The moving mean, over fewer points at the start, where a loss falls fast."""
    values = [y for _, y in points]
    reach = [min(i, REACH) for i in range(len(points))]
    return [(x, fmean(values[i - reach[i] : i + reach[i] + 1])) for i, (x, _) in enumerate(points)]


def _seen(curve: Curve) -> list[float]:
    """The values that must lie on the chart: all but the outliers of a noisy curve."""
    values = sorted(y for _, y in curve.points)
    if curve.kind != "noisy":
        return values
    rare = len(values) // 100
    return values[rare : len(values) - rare] + [y for _, y in _smooth(curve.points)]


def _lines(curve: Curve, colour: int, across: Scale, upright: Scale) -> str:
    def path(points: Points) -> list[str]:
        return [f"{SIDE * across.place(x):.1f} {SIDE * (1 - upright.place(y)):.1f}" for x, y in points]

    places = path(curve.points)
    line = f'<path class="line c{colour}" d="M{"L".join(places)}"/>'
    if curve.kind == "measured":
        dots = "".join(f"M{place}h0" for place in places)  # a line of no length, for its round ends are not stretched
        return f'{line}<path class="dots c{colour}" d="{dots}"/>'
    if curve.kind == "noisy":
        smooth = path(_smooth(curve.points))
        return f'<path class="raw c{colour}" d="M{"L".join(places)}"/><path class="line c{colour}" d="M{"L".join(smooth)}"/>'
    return line


def _bands(curves: Sequence[Curve], across: Scale) -> list[str]:
    """What the mouse finds: for each band the last values in it."""
    texts: dict[int, list[str]] = {}
    for curve in curves:
        last = {int(across.place(x) * BANDS): (x, y) for x, y in curve.points}
        for band, (x, y) in last.items():
            texts.setdefault(band, []).append(f"{curve.name}: {number(y)} at step {number(x)}")
    width = SIDE / BANDS
    return [
        f'<rect class="band" x="{band * width:.1f}" y="0" width="{width:.1f}" height="{SIDE}">'
        f"<title>{escape(chr(10).join(lines))}</title></rect>"
        for band, lines in sorted(texts.items())
    ]
