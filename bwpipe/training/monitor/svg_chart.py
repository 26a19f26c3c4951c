"""A line chart in HTML: an SVG that stretches with the page, and letters beside it that keep their size."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite
from statistics import fmean
from typing import Literal

from bwpipe.live.scale import Scale, number

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
