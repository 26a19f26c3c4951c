"""Scores as text."""

from collections.abc import Iterator, Mapping, Sequence

from bwpipe.evaluation.aggregate import AggregateScores
from bwpipe.evaluation.score import Scores
from bwpipe.metrics.descriptions import FIGURES, FILM_FIGURES

HEADS = {
    "rgb_mse": ("MSE", ".5f"),
    "own_rgb_mse": ("own MSE", ".5f"),
    "psnr": ("PSNR", ".2f"),
    "ssim": ("SSIM", ".4f"),
    "ciede2000": ("CIEDE2000", ".2f"),
    "colourfulness": ("colourful", ".1f"),
    "colourfulness_truth": ("reference", ".1f"),
    "colourfulness_difference": ("diff.", "+.1f"),
    "chroma_error": ("chroma err.", ".2f"),
    "chroma_ratio": ("ratio", ".3f"),
    "chroma_correlation": ("corr.", ".3f"),
    "unevenness": ("uneven", ".3f"),
    "neutral_painted": ("neutral painted", ".3f"),
    "frechet": ("Frechet", ".2f"),
}
"""Heading and number format of each figure."""


FILM_HEADS = {
    "flicker": ("flicker", ".3f"),
    "chroma_change": ("chroma change", ".3f"),
    "cdc": ("CDC", ".5f"),
    "drift_12": ("drift 12", ".3f"),
    "drift_48": ("drift 48", ".3f"),
    "drift_half": ("half shot", ".3f"),
}
"""Heading and number format of each figure of a video."""
FILM_ROW = ["", "frames", "", *(head for head, _ in FILM_HEADS.values())]
SIDES = {"guess": "prediction", "truth": "reference"}
"""Row labels by the keys of the JSON."""


def lines(scores: Scores) -> Iterator[str]:
    """The protocol, the figures of each folder and overall, the hues overall, and the figures of each film."""
    yield from pairs(scores.protocol)
    if scores.whole:
        yield ""
        yield from figures(scores)
        yield ""
        yield from _hues(scores.whole)
    if scores.films:
        yield ""
        yield from columns([FILM_ROW, *video_rows(scores)])


def meanings(scores: Scores) -> dict[str, str]:
    """The meanings of the figures, by heading."""
    scored = scores.whole.figures if scores.whole else {}
    of_images = {f"{head} ({name})": FIGURES[name] for name, (head, _) in HEADS.items() if name in scored}
    of_videos = {f"{head} ({name})": FILM_FIGURES[name] for name, (head, _) in FILM_HEADS.items() if scores.films}
    return of_images | of_videos


def pairs(values: Mapping[str, object]) -> Iterator[str]:
    """Names and values in two columns."""
    width = max(map(len, values))
    return (f"{name:{width}}  {value}" for name, value in values.items())


def video_rows(scores: Scores) -> Iterator[list[str]]:
    """Rows of cells for each video: the prediction's figures and, if the reference is in colour, its own and the ratios."""
    for name, film in scores.films.items():
        rows: dict[str, tuple[Mapping[str, float], str | None]] = {SIDES["guess"]: (film.prediction, None)}
        if film.reference is not None:
            rows |= {SIDES["truth"]: (film.reference, None), "ratio": (film.ratio, ".2f")}
        for what, (row, form) in rows.items():
            cells = (f"{row[key]:{form or own}}" if key in row else "-" for key, (_, own) in FILM_HEADS.items())
            first = what == SIDES["guess"]
            yield [name if first else "", str(film.frames) if first else "", what, *cells]


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of cells as lines, the first column left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join([f"{first:{widths[0]}}", *cells])


def figures(scores: Scores) -> Iterator[str]:
    """The figures of each folder and overall, the prediction's above those of grey; there must be images."""
    assert scores.whole
    results = {**scores.folders, "all": scores.whole}
    names = [name for name in HEADS if name in scores.whole.figures]
    widths = {name: max(8, len(HEADS[name][0])) for name in names}
    first = max(map(len, results))
    yield "  ".join([" " * first, "  images", " " * 10, *(f"{HEADS[name][0]:>{widths[name]}}" for name in names)])
    for place, result in results.items():
        head = f"{place:{first}}  {result.count:8}"
        for what, row in (("prediction", result.figures), ("grey", result.grey)):
            cells = (f"{shown(name, row):>{widths[name]}}" for name in names)
            yield "  ".join([head, f"{what:10}", *cells])
            head = " " * len(head)


def shown(name: str, row: Mapping[str, float]) -> str:
    """A formatted figure of a row."""
    return f"{row[name]:{HEADS[name][1]}}" if name in row else "-"


def _hues(result: AggregateScores) -> Iterator[str]:
    yield "  ".join(["share of   ", *(f"{hue:>6}" for hue in result.hues)])
    for key, label in SIDES.items():
        yield "  ".join([f"{label:11}", *(f"{share[key]:6.1%}" for share in result.hues.values())])
