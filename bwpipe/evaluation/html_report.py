"""Scores as an HTML page: the figures, and the best, median and worst predictions."""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.console import printable
from bwpipe.core.context import RunContext
from bwpipe.errors import MediaError
from bwpipe.evaluation.aggregate import AggregateScores
from bwpipe.evaluation.predictions import Predictions
from bwpipe.evaluation.references import References
from bwpipe.evaluation.score import Scores
from bwpipe.evaluation.text_report import FILM_ROW, HEADS, SIDES, meanings, shown, video_rows
from bwpipe.pixels.resize import fit_short_side, resize_area

PER_GROUP = 4
"""Number of images shown in each group: best, median, worst."""
SHORT_SIDE = 256
"""Maximum short side of an image on the page, in pixels."""
QUALITY = 92
"""JPEG quality of these images."""
_CAPTION = ("ciede2000", "psnr", "ssim", "chroma_error", "colourfulness")
"""The figures in the caption of each image."""

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { margin: 2em auto; max-width: 75em; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #8884; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child, .words td { text-align: left; }
.wide { overflow-x: auto; }
figure { margin: 1.5em 0; max-width: 48em; }
figure div { display: grid; grid-template-columns: repeat(3, 1fr); gap: 4px; }
img { width: 100%; display: block; }
figcaption { font-size: .9em; opacity: .8; overflow-wrap: anywhere; }
"""


def page(scores: Scores, references: References, predictions: Predictions, run: RunContext) -> str:
    """A self-contained HTML page; an image that cannot be read again is reported as failed in the run."""
    videos = _table(FILM_ROW, video_rows(scores)) if scores.films else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>bwpipe score</title>
<style>{_STYLE}</style>
<h1>bwpipe score</h1>
{_words(scores.protocol)}
{videos}
{_images(scores, scores.whole, references, predictions, run) if scores.whole else ""}
<h2>What the figures are</h2>
{_words(meanings(scores))}
</html>
"""


def _images(scores: Scores, whole: AggregateScores, references: References, predictions: Predictions, run: RunContext) -> str:
    """The figures of the images, and a selection of the images."""
    groups = {
        what: "\n".join(_figure(name, scores, references, predictions, run) for name in names)
        for what, names in selected(scores).items()
    }
    sections = "\n".join(f"<h2>{what}</h2>\n{figures}" for what, figures in groups.items())
    return f"""<div class="wide">{_figures(scores, whole)}</div>
{_hues(whole)}
<p>The images below are selected by CIEDE2000. Each is shown as grey, prediction and reference.</p>
{sections}"""


def selected(scores: Scores) -> dict[str, list[str]]:
    """The names of the best, median and worst images by the prediction's CIEDE2000; with very few images the groups overlap."""
    order = sorted(scores.pictures, key=lambda name: scores.pictures[name]["guess"]["ciede2000"])
    count = min(PER_GROUP, max(1, len(order) // 3))
    middle = (len(order) - count) // 2
    return {"best": order[:count], "median": order[middle : middle + count], "worst": order[::-1][:count]}


def _figure(name: str, scores: Scores, references: References, predictions: Predictions, run: RunContext) -> str:
    """An image as grey, prediction and reference, with its figures."""
    run.raise_if_stopped()
    try:
        reference = references.read(name)
        assert reference is not None, "it was scored, so it has colour"
        images = {"grey": reference.grey, "prediction": predictions(reference).rgb, "reference": reference.rgb}
    except MediaError as error:
        run.fail(references.unit(name), error)
        return ""
    figures = scores.pictures[name]
    caption = ", ".join(
        f"{HEADS[key][0]} {shown(key, figures['guess'])} (grey {shown(key, figures['grey'])})" for key in _CAPTION
    )
    tags = "".join(f'<img src="data:image/jpeg;base64,{_jpeg(rgb)}" alt="{what}">' for what, rgb in images.items())
    return f"<figure><div>{tags}</div><figcaption>{escape(printable(name))}: {caption}</figcaption></figure>"


def _jpeg(rgb: NDArray[np.uint8]) -> str:
    small = resize_area(rgb, fit_short_side(rgb.shape[:2], SHORT_SIDE))
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return b64encode(data.tobytes()).decode()


def _words(values: Mapping[str, object]) -> str:
    return _table((), ([name, str(value)] for name, value in values.items()), kind=' class="words"')


def _figures(scores: Scores, whole: AggregateScores) -> str:
    names = [name for name in HEADS if name in whole.figures]
    rows = [
        [place, str(result.count), what, *(shown(name, row) for name in names)]
        for place, result in {**scores.folders, "all": whole}.items()
        for what, row in (("prediction", result.figures), ("grey", result.grey))
    ]
    return _table(["", "images", "", *(HEADS[name][0] for name in names)], rows)


def _hues(whole: AggregateScores) -> str:
    hues = whole.hues
    rows = [[label, *(f"{share[key]:.1%}" for share in hues.values())] for key, label in SIDES.items()]
    return _table(["share of", *hues], rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    top = "".join(f"<th>{escape(printable(cell))}</th>" for cell in head)
    body = "\n".join(f"<tr>{''.join(f'<td>{escape(printable(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table{kind}>\n{f'<tr>{top}</tr>' if top else ''}\n{body}\n</table>"
