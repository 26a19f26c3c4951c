"""Scores as a page: the figures, and the best, the median and the worst guesses."""

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
from bwpipe.evaluation.text_report import FILM_ROW, HEADS, meanings, shown, video_rows
from bwpipe.pixels.resize import fit_short_side, resize_area

EACH = 4
"""How many of the best, the median and the worst are shown."""
SIDE = 256
"""Pixels of the shorter side of a picture on the page, at most."""
QUALITY = 92
"""Of these, as JPEG."""
_TOLD = ("ciede2000", "psnr", "ssim", "chroma_error", "colourfulness")
"""What stands below each picture."""

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


def page(scores: Scores, truths: References, guesses: Predictions, run: RunContext) -> str:
    """A page of HTML that needs no other file; a picture that can't be read again fails in the run."""
    films = _table(FILM_ROW, video_rows(scores)) if scores.films else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>bwpipe score</title>
<style>{_STYLE}</style>
<h1>bwpipe score</h1>
{_words(scores.protocol)}
{films}
{_pictures(scores, scores.whole, truths, guesses, run) if scores.whole else ""}
<h2>What the figures are</h2>
{_words(meanings(scores))}
</html>
"""


def _pictures(scores: Scores, whole: AggregateScores, truths: References, guesses: Predictions, run: RunContext) -> str:
    """The figures of pictures, and some of the pictures."""
    groups = {
        what: "\n".join(_figure(name, scores, truths, guesses, run) for name in names) for what, names in chosen(scores).items()
    }
    shows = "\n".join(f"<h2>{what}</h2>\n{figures}" for what, figures in groups.items())
    return f"""<div class="wide">{_figures(scores, whole)}</div>
{_hues(whole)}
<p>The pictures below are chosen by CIEDE2000. Each is shown in grey, as it was guessed, and as it is.</p>
{shows}"""


def chosen(scores: Scores) -> dict[str, list[str]]:
    """The names of the best, median and worst pictures by the guess's CIEDE2000; of very few, some are the same."""
    order = sorted(scores.pictures, key=lambda name: scores.pictures[name]["guess"]["ciede2000"])
    count = min(EACH, max(1, len(order) // 3))
    middle = (len(order) - count) // 2
    return {"best": order[:count], "median": order[middle : middle + count], "worst": order[::-1][:count]}


def _figure(name: str, scores: Scores, truths: References, guesses: Predictions, run: RunContext) -> str:
    """A picture in grey, as guessed and as it is, with its figures."""
    run.raise_if_stopped()
    try:
        truth = truths.read(name)
        assert truth is not None, "it was scored, so it has colour"
        pictures = {"grey": truth.grey, "guess": guesses(truth).rgb, "truth": truth.rgb}
    except MediaError as error:
        run.fail(truths.unit(name), error)
        return ""
    marks = scores.pictures[name]
    told = ", ".join(f"{HEADS[key][0]} {shown(key, marks['guess'])} (grey {shown(key, marks['grey'])})" for key in _TOLD)
    images = "".join(f'<img src="data:image/jpeg;base64,{_jpeg(rgb)}" alt="{what}">' for what, rgb in pictures.items())
    return f"<figure><div>{images}</div><figcaption>{escape(printable(name))}: {told}</figcaption></figure>"


def _jpeg(rgb: NDArray[np.uint8]) -> str:
    small = resize_area(rgb, fit_short_side(rgb.shape[:2], SIDE))
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return b64encode(data.tobytes()).decode()


def _words(values: Mapping[str, object]) -> str:
    return _table((), ([name, str(value)] for name, value in values.items()), kind=' class="words"')


def _figures(scores: Scores, whole: AggregateScores) -> str:
    names = [name for name in HEADS if name in whole.figures]
    rows = [
        [place, str(standing.pictures), what, *(shown(name, row) for name in names)]
        for place, standing in {**scores.folders, "all": whole}.items()
        for what, row in (("guess", standing.figures), ("grey", standing.grey))
    ]
    return _table(["", "pictures", "", *(HEADS[name][0] for name in names)], rows)


def _hues(whole: AggregateScores) -> str:
    hues = whole.hues
    rows = [[whose, *(f"{share[whose]:.1%}" for share in hues.values())] for whose in ("guess", "truth")]
    return _table(["share of", *hues], rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    top = "".join(f"<th>{escape(printable(cell))}</th>" for cell in head)
    body = "\n".join(f"<tr>{''.join(f'<td>{escape(printable(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table{kind}>\n{f'<tr>{top}</tr>' if top else ''}\n{body}\n</table>"
