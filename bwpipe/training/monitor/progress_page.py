"""The progress page of a training: one self-contained HTML file, without server or script."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import escape
from importlib.resources import files

from bwpipe.training.monitor.summary import Summary
from bwpipe.training.monitor.svg_chart import Curve, chart, number

REFRESH = 30
"""Seconds after which a browser reloads the page while the training runs."""
SPEED = "photos_per_s"
"""Name of the speed among a step's figures."""
RATE = "rate"
"""Name of the learning rate among a step's figures; the only one without noise."""


@dataclass(frozen=True, slots=True)
class ReportData:
    """The content of the page.

    Attributes:
        title: Title of the training.
        graph: The text of the graph file.
        goal: The figure by which the best validation is selected.
        best: The best validation; None before the first.
        step: Number of steps done.
        steps: Total number of steps; None if unknown.
        epochs: Total number of epochs; None if unknown.
        points: Figures of some steps, each with its "step", ascending.
        history: Figures of each validation, with its "step" and "epoch".
        sheet: The latest sheet as a JPEG; None before the first.
        running: Whether the training is still running.
        written: Time of writing.
        batch: Photographs per step; None if unknown.
        settings: The options that differ from the defaults, by name.
        others: Trainings to compare with, by the names of their folders.
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
    batch: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    others: Sequence[tuple[str, Summary]] = ()

    @property
    def seconds_left(self) -> float | None:
        """The time that the steps still to come take at the latest speed, which includes validations; None if unknown."""
        speed = self.points[-1].get(SPEED, 0) if self.points else 0
        if not (self.running and self.steps and self.batch and speed > 0):
            return None
        return (self.steps - self.step) * self.batch / speed


def page(data: ReportData) -> str:
    """Render the page."""
    title = escape(data.title)
    refresh = f'<meta http-equiv="refresh" content="{REFRESH}">' if data.running else ""
    style = files("bwpipe.training.monitor").joinpath("report.css").read_text(encoding="utf-8")
    badge = '<span class="badge running">running</span>' if data.running else '<span class="badge">ended</span>'
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
{_state(data)}
<div class="charts">
{_charts(data)}
</div>
{_sheet(data)}
{_table(data)}
{_comparison(data)}
{_settings(data)}
<h2>Graph</h2>
<pre>{escape(data.graph)}</pre>
</body>
</html>
"""


def _state(data: ReportData) -> str:
    """The key figures."""
    items = [("step", number(data.step), f"of {number(data.steps)}" if data.steps else "")]
    if data.steps and data.epochs:
        items.append(("epoch", number(data.epochs * data.step / data.steps), f"of {data.epochs}"))
    elif data.history:
        items.append(("epoch", number(data.history[-1]["epoch"]), "at the last validation"))
    if best := data.best:
        items.append((f"best {data.goal}", number(best[data.goal]), f"at step {number(best['step'])}"))
    if data.points and SPEED in data.points[-1]:
        items.append(("photos/s", number(data.points[-1][SPEED]), ""))
    if (left := data.seconds_left) is not None:
        ends = data.written + timedelta(seconds=left)
        items.append(("time left", duration(left), f"until about {ends:%H:%M}, {ends:%Y-%m-%d}"))
    items.append(("written", f"{data.written:%H:%M:%S}", f"{data.written:%Y-%m-%d %Z}"))
    cells = "".join(f"<div><dt>{escape(k)}</dt><dd>{v} <small>{escape(more)}</small></dd></div>" for k, v, more in items)
    bar = f'<progress value="{data.step}" max="{data.steps}"></progress>' if data.steps else ""
    return f"<dl>{cells}</dl>{bar}"


def _charts(data: ReportData) -> str:
    """One chart per kind of figure: names with the same ending, such as `rgb_mse` and `kept_mse`, are comparable."""
    validated, trained = _columns(data.history), _columns(data.points)
    kinds: dict[str, list[str]] = {"loss": []}  # first, hence the large chart
    for name in validated | trained:
        kinds.setdefault(name.rpartition("_")[2], []).append(name)
    charts = []
    for kind, names in kinds.items():
        title = kind if len(names) > 1 else "learning rate" if names == [RATE] else "".join(names).replace("_", " ")
        curves = [Curve(k, trained[k], "exact" if k == RATE else "noisy") for k in names if k in trained]
        curves += [Curve(f"{k} at validation", validated[k], "measured") for k in names if k in validated]
        charts.append(chart(title, curves, max(data.step, 1)))
    return "\n".join(charts)


def _columns(rows: Sequence[dict[str, float]]) -> dict[str, list[tuple[float, float]]]:
    """Steps and values of each figure."""
    columns: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in ("step", "epoch"):
                columns.setdefault(name, []).append((row["step"], value))
    return columns


def _sheet(data: ReportData) -> str:
    if data.sheet is None:
        return ""
    encoded = b64encode(data.sheet).decode()
    caption = f"Validation at step {number(data.history[-1]['step'])} <small>grey | prediction | ground truth</small>"
    return (
        f'<h2>{caption}</h2>\n<img class="sheet" alt="input, prediction, ground truth" src="data:image/jpeg;base64,{encoded}">'
    )


def _table(data: ReportData) -> str:
    """All validations, newest first."""
    if not data.history:
        return ""
    names = list(dict.fromkeys(name for figures in data.history for name in figures))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for figures in reversed(data.history):
        cells = "".join(f"<td>{_cell(name, figures)}</td>" for name in names)
        rows.append(f'<tr class="best">{cells}</tr>' if figures is data.best else f"<tr>{cells}</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<h2>Validations</h2>\n<div class="table">{table}</div>'


def _cell(name: str, figures: dict[str, float]) -> str:
    """A figure with a fixed number of digits, so that the columns line up."""
    if name not in figures:
        return ""
    return number(figures[name]) if name in ("step", "epoch") else f"{figures[name]:#.4g}"


def duration(seconds: float) -> str:
    """A time as a reader says it: `2 h 05 min`, `12 min`, `40 s`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min" if seconds >= 90 else f"{round(seconds)} s"


def _settings(data: ReportData) -> str:
    """The hyper-parameters that differ from the defaults."""
    if not data.settings:
        return ""
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in data.settings.items())
    return f'<h2>Options of fit</h2>\n<div class="table"><table>{rows}</table></div>'


def _comparison(data: ReportData) -> str:
    """The best validation of each training beside this one, and the options in which it differs from this one."""
    if not data.others:
        return ""
    own = Summary(title=data.title, step=data.step, goal=data.goal, best=data.best, settings=dict(data.settings))
    names = list(dict.fromkeys(name for _, each in (("", own), *data.others) for name in each.best or {} if name != "step"))
    head = "".join(f"<th>{escape(name)}</th>" for name in ("training", "steps", *names, "options that differ"))
    rows = []
    for folder, each in (("this one", own), *data.others):
        cells = "".join(f"<td>{_cell(name, each.best or {})}</td>" for name in names)
        kind = ' class="best"' if each is own else ""
        differing = ", ".join(_differences(own.settings, each.settings))
        rows.append(f"<tr{kind}><td>{escape(folder)}</td><td>{number(each.step)}</td>{cells}<td>{escape(differing)}</td></tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<h2>Beside other trainings <small>the best validation of each</small></h2>\n<div class="table">{table}</div>'


def _differences(own: Mapping[str, str], other: Mapping[str, str]) -> Iterator[str]:
    """The options that another training has otherwise, as in its graph."""
    for name in dict.fromkeys((*other, *own)):
        if own.get(name) != other.get(name):
            yield f"{name}: {other.get(name, 'default')}"
