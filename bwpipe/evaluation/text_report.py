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
    "colourfulness_truth": ("truth's", ".1f"),
    "colourfulness_difference": ("diff.", "+.1f"),
    "chroma_error": ("chroma err.", ".2f"),
    "chroma_ratio": ("ratio", ".3f"),
    "chroma_correlation": ("corr.", ".3f"),
    "frechet": ("Frechet", ".2f"),
}
"""How each figure is headed and shown."""


FILM_HEADS = {"flicker": ("flicker", ".3f"), "chroma_change": ("chroma change", ".3f"), "cdc": ("CDC", ".5f")}
"""How each figure of a film is headed and shown."""
FILM_ROW = ["", "frames", "", *(head for head, _ in FILM_HEADS.values())]


def lines(scores: Scores) -> Iterator[str]:
    """The protocol, the figures of each folder and of all, the hues of all, and the figures of each film."""
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
    """What the figures are, by their heads."""
    known = scores.whole.figures if scores.whole else {}
    meant = {f"{head} ({name})": FIGURES[name] for name, (head, _) in HEADS.items() if name in known}
    of_films = {f"{head} ({name})": FILM_FIGURES[name] for name, (head, _) in FILM_HEADS.items() if scores.films}
    return meant | of_films


def pairs(values: Mapping[str, object]) -> Iterator[str]:
    """Names and what they stand for."""
    width = max(map(len, values))
    return (f"{name:{width}}  {value}" for name, value in values.items())


def video_rows(scores: Scores) -> Iterator[list[str]]:
    """Of each film, rows of cells: the guess's figures, and those of a source in colour, and the ratios to them."""
    for name, film in scores.films.items():
        rows: dict[str, tuple[Mapping[str, float], str | None]] = {"guess": (film.guess, None)}
        if film.truth is not None:
            rows |= {"truth": (film.truth, None), "ratio": (film.ratio, ".2f")}
        for what, (row, form) in rows.items():
            cells = (f"{row[key]:{form or own}}" if key in row else "-" for key, (_, own) in FILM_HEADS.items())
            yield [name if what == "guess" else "", str(film.frames) if what == "guess" else "", what, *cells]


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of cells as lines, the first cells flush left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join([f"{first:{widths[0]}}", *cells])


def figures(scores: Scores) -> Iterator[str]:
    """The figures of each folder and of all, the guess's above grey's; there are pictures."""
    assert scores.whole
    standings = {**scores.folders, "all": scores.whole}
    names = [name for name in HEADS if name in scores.whole.figures]
    widths = {name: max(8, len(HEADS[name][0])) for name in names}
    first = max(map(len, standings))
    yield "  ".join([" " * first, "pictures", "     ", *(f"{HEADS[name][0]:>{widths[name]}}" for name in names)])
    for place, standing in standings.items():
        head = f"{place:{first}}  {standing.pictures:8}"
        for what, row in (("guess", standing.figures), ("grey", standing.grey)):
            cells = (f"{shown(name, row):>{widths[name]}}" for name in names)
            yield "  ".join([head, f"{what:5}", *cells])
            head = " " * len(head)


def shown(name: str, row: Mapping[str, float]) -> str:
    """A figure of a row, as people read it."""
    return f"{row[name]:{HEADS[name][1]}}" if name in row else "-"


def _hues(standing: AggregateScores) -> Iterator[str]:
    yield "  ".join(["share of   ", *(f"{hue:>6}" for hue in standing.hues)])
    for whose in ("guess", "truth"):
        yield "  ".join([f"{whose:11}", *(f"{share[whose]:6.1%}" for share in standing.hues.values())])
