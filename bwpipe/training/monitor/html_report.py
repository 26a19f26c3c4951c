"""The page that shows how a training goes: one file of HTML that needs no other, no server and no script."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from importlib.resources import files

from bwpipe.training.monitor.svg_chart import Curve, chart, number

REFRESH = 30
"""Seconds after which a browser reads the page again, as long as the training runs."""
SPEED = "photos_per_s"
"""The name of the number of a step that says how fast the training is."""
RATE = "rate"
"""The name of the learning rate among the numbers of a step, which alone is without noise."""


@dataclass(frozen=True, slots=True)
class ReportData:
    """What the page tells.

    Attributes:
        title: Of the training.
        graph: The text of the graph file.
        goal: The figure that says which validation is the best.
        best: That validation; None before there is one.
        step: How many steps were made.
        steps: How many there are to be; None if that is not known.
        epochs: How many epochs there are to be; None if that is not known.
        points: Numbers of some steps, with the "step", ascending.
        history: Figures of each validation, with its "step" and "epoch".
        sheet: The newest sheet as a JPEG; None before there is one.
        running: Whether there is more to come.
        written: When it was told.
    """

    title: str
    graph: str
    goal: str
    best: dict[str, float] | None
    step: int
    steps: int | None
    epochs: int | None
    points: Sequence[dict[str, float]]
    history: Sequence[dict[str, float]]
    sheet: bytes | None
    running: bool
    written: datetime


def page(story: ReportData) -> str:
    """A story as a page."""
    title = escape(story.title)
    refresh = f'<meta http-equiv="refresh" content="{REFRESH}">' if story.running else ""
    style = files("bwpipe.training.monitor").joinpath("report.css").read_text(encoding="utf-8")
    badge = '<span class="badge running">running</span>' if story.running else '<span class="badge">ended</span>'
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
{refresh}
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1>{badge}</header>
{_state(story)}
<div class="charts">
{_charts(story)}
</div>
{_sheet(story)}
{_table(story)}
<h2>Graph</h2>
<pre>{escape(story.graph)}</pre>
</body>
</html>
"""


def _state(story: ReportData) -> str:
    """The numbers one looks for first."""
    items = [("step", number(story.step), f"of {number(story.steps)}" if story.steps else "")]
    if story.steps and story.epochs:
        items.append(("epoch", number(story.epochs * story.step / story.steps), f"of {story.epochs}"))
    elif story.history:
        items.append(("epoch", number(story.history[-1]["epoch"]), "at the last validation"))
    if best := story.best:
        items.append((f"best {story.goal}", number(best[story.goal]), f"at step {number(best['step'])}"))
    if story.points and SPEED in story.points[-1]:
        items.append(("photos/s", number(story.points[-1][SPEED]), ""))
    items.append(("written", f"{story.written:%H:%M:%S}", f"{story.written:%Y-%m-%d %Z}"))
    cells = "".join(f"<div><dt>{escape(k)}</dt><dd>{v} <small>{escape(more)}</small></dd></div>" for k, v, more in items)
    bar = f'<progress value="{story.step}" max="{story.steps}"></progress>' if story.steps else ""
    return f"<dl>{cells}</dl>{bar}"


def _charts(story: ReportData) -> str:
    """A chart for each kind of figure: those whose names end alike, such as `rgb_mse` and `kept_mse`, are comparable."""
    validated, trained = _columns(story.history), _columns(story.points)
    kinds: dict[str, list[str]] = {"loss": []}  # the one that is shown large
    for name in validated | trained:
        kinds.setdefault(name.rpartition("_")[2], []).append(name)
    charts = []
    for kind, names in kinds.items():
        title = kind if len(names) > 1 else "learning rate" if names == [RATE] else "".join(names).replace("_", " ")
        curves = [Curve(k, trained[k], "exact" if k == RATE else "noisy") for k in names if k in trained]
        curves += [Curve(f"{k} at validation", validated[k], "measured") for k in names if k in validated]
        charts.append(chart(title, curves, max(story.step, 1)))
    return "\n".join(charts)


def _columns(rows: Sequence[dict[str, float]]) -> dict[str, list[tuple[float, float]]]:
    """Steps and values of each figure."""
    columns: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in ("step", "epoch"):
                columns.setdefault(name, []).append((row["step"], value))
    return columns


def _sheet(story: ReportData) -> str:
    if story.sheet is None:
        return ""
    data = b64encode(story.sheet).decode()
    caption = f"Validation at step {number(story.history[-1]['step'])} <small>grey | guess | truth</small>"
    return f'<h2>{caption}</h2>\n<img class="sheet" alt="grey, guess and truth" src="data:image/jpeg;base64,{data}">'


def _table(story: ReportData) -> str:
    """All validations, the newest first."""
    if not story.history:
        return ""
    names = list(dict.fromkeys(name for figures in story.history for name in figures))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for figures in reversed(story.history):
        cells = "".join(f"<td>{_cell(name, figures)}</td>" for name in names)
        rows.append(f'<tr class="best">{cells}</tr>' if figures is story.best else f"<tr>{cells}</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<h2>Validations</h2>\n<div class="table">{table}</div>'


def _cell(name: str, figures: dict[str, float]) -> str:
    """A figure with all its digits, so that a column is as one reads it from far."""
    if name not in figures:
        return ""
    return number(figures[name]) if name in ("step", "epoch") else f"{figures[name]:#.4g}"
