"""Scores as text."""

from collections.abc import Iterator, Mapping

from bwpipe.scoring.names import FIGURES
from bwpipe.scoring.score import Scores
from bwpipe.scoring.tally import Standing

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


def lines(scores: Scores) -> Iterator[str]:
    """The protocol, the figures of each folder and of all, and the hues of all."""
    yield from pairs(scores.protocol)
    yield ""
    yield from figures(scores)
    yield ""
    yield from _hues(scores.whole)


def meanings(scores: Scores) -> dict[str, str]:
    """What the figures are, by their heads."""
    return {f"{head} ({name})": FIGURES[name] for name, (head, _) in HEADS.items() if name in scores.whole.figures}


def pairs(values: Mapping[str, object]) -> Iterator[str]:
    """Names and what they stand for."""
    width = max(map(len, values))
    return (f"{name:{width}}  {value}" for name, value in values.items())


def figures(scores: Scores) -> Iterator[str]:
    """The figures of each folder and of all, the guess's above grey's."""
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


def _hues(standing: Standing) -> Iterator[str]:
    yield "  ".join(["share of   ", *(f"{hue:>6}" for hue in standing.hues)])
    for whose in ("guess", "truth"):
        yield "  ".join([f"{whose:11}", *(f"{share[whose]:6.1%}" for share in standing.hues.values())])
