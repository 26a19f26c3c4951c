"""Compares guesses with the truth, picture by picture."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import torch

from bwpipe import __version__
from bwpipe.errors import MediaError, UsageError
from bwpipe.execution import Run
from bwpipe.scoring.frechet import LEAST, PACKAGE, SIDE, Eyes, has_weights
from bwpipe.scoring.guesses import Guesses
from bwpipe.scoring.marks import Marks, mark
from bwpipe.scoring.names import FIGURES
from bwpipe.scoring.tally import Standing, Tally
from bwpipe.scoring.truths import Truths
from bwpipe.workers import ordered


@dataclass(frozen=True, slots=True)
class Scores:
    """What came of a comparison.

    Attributes:
        protocol: What was compared, and how.
        whole: The figures of all pictures.
        folders: Those of each folder at the top; empty where there is only one.
        pictures: Of each picture, by its name, the guess's own figures and grey's.
    """

    protocol: dict[str, str | int | float]
    whole: Standing
    folders: dict[str, Standing]
    pictures: dict[str, dict[str, dict[str, float]]]

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "protocol": self.protocol,
            "all": self.whole.plain(),
            "by_folder": {name: standing.plain() for name, standing in self.folders.items()},
            "pictures": self.pictures,
            "meaning": FIGURES,
        }


def score(
    truths: Truths,
    guesses: Guesses,
    *,
    run: Run,
    device: torch.device,
    workers: int,
    show: Callable[[int], None] = lambda done: None,
) -> Scores:
    """Compare every guess with its truth.

    Args:
        truths: The photographs.
        guesses: Makes or finds the guess for each.
        run: Is told what fails and what is left out; its stop ends the work.
        device: Where the features for the Frechet distance are computed.
        workers: How many pictures are worked on at a time.
        show: Called with how many pictures are done.

    Raises:
        UsageError: There is not one picture to score.
    """
    for broken in truths.refused:
        run.fail(broken, MediaError(broken.error))
    eyes, note = _eyes(len(truths.names), device)
    whole, folders = Tally(), {_folder(name): Tally() for name in truths.names}
    pictures: dict[str, dict[str, dict[str, float]]] = {}
    grey = 0
    for done, (name, marks) in enumerate(_marked(truths, guesses, eyes, workers), start=1):
        run.raise_if_stopped()
        if isinstance(marks, MediaError):
            run.fail(truths.unit(name), marks)
        elif marks is None:
            grey += 1
        else:
            whole.add(marks)
            folders[_folder(name)].add(marks)
            pictures[name] = {"guess": marks.guess, "grey": marks.grey}
        show(done)
    if not pictures:
        raise UsageError("there is no picture in colour to compare with; give another folder of truths")
    protocol: dict[str, str | int | float] = {
        **truths.told(),
        "pictures": len(pictures),
        "left_out_grey": grey,
        "failed": len(truths.refused) + len(truths.names) - len(pictures) - grey,
        **guesses.told(),
        "frechet": note,
        "version": f"bwpipe {__version__}",
    }
    standings = {name: tally.standing() for name, tally in sorted(folders.items()) if len(folders) > 1 and tally.pictures}
    return Scores(protocol, whole.standing(), standings, pictures)


def _marked(
    truths: Truths, guesses: Guesses, eyes: Eyes | None, workers: int
) -> Iterator[tuple[str, Marks | MediaError | None]]:
    """The marks of each picture by name; instead, what is wrong with it, or None for one in black and white."""

    def work(name: str) -> Marks | MediaError | None:
        if torch.get_num_threads() > 1:  # it is a setting of this thread, and decides the order of sums
            torch.set_num_threads(1)
        try:
            truth = truths.read(name)
            return None if truth is None else mark(truth, guesses(truth), eyes)
        except MediaError as error:
            return error

    threads = torch.get_num_threads()
    try:
        yield from zip(truths.names, ordered(work, truths.names, workers), strict=True)
    finally:
        torch.set_num_threads(threads)  # a single worker works in this thread


def _folder(name: str) -> str:
    """The folder at the top that a picture is in; "." for one that is in none."""
    return next(iter(PurePosixPath(name).parts[:-1]), ".")


def _eyes(pictures: int, device: torch.device) -> tuple[Eyes | None, str]:
    """What sees the features for the Frechet distance, if that makes sense, and a remark for the protocol."""
    if pictures < LEAST:
        return None, f"left out: {pictures} pictures are too few for it, it takes {LEAST}"
    if not has_weights():
        return None, f"left out: the package {PACKAGE} is not installed"
    return Eyes(device), (
        f"of pictures squashed to {SIDE} x {SIDE}; where there are fewer than {LEAST} it is left out, since the covariance of "
        f"{LEAST - 1} features is not determined by them"
    )
