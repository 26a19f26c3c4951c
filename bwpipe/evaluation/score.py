"""Compares guesses with the truth, picture by picture."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import torch

from bwpipe.core.context import RunContext
from bwpipe.core.parallel import ordered_map
from bwpipe.errors import MediaError, RunAborted, UsageError
from bwpipe.evaluation.aggregate import AggregateScores, Aggregator, ImageScores, score_image
from bwpipe.evaluation.predictions import Predictions
from bwpipe.evaluation.references import References
from bwpipe.evaluation.video_scores import VideoScore
from bwpipe.metrics.descriptions import FIGURES, FILM_FIGURES
from bwpipe.metrics.frechet import LEAST, PACKAGE, SIDE, FeatureExtractor, has_weights
from bwpipe.version import __version__


@dataclass(frozen=True, slots=True)
class Scores:
    """What came of a comparison.

    Attributes:
        protocol: What was compared, and how.
        whole: The figures of all pictures; None where there are films only.
        folders: Those of each folder at the top; empty where there is only one.
        pictures: Of each picture, by its name, the guess's own figures and grey's.
        films: Those of each film, by its name.
    """

    protocol: dict[str, str | int | float]
    whole: AggregateScores | None
    folders: dict[str, AggregateScores]
    pictures: dict[str, dict[str, dict[str, float]]]
    films: dict[str, VideoScore] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "protocol": self.protocol,
            "all": self.whole.to_json() if self.whole else None,
            "by_folder": {name: standing.to_json() for name, standing in self.folders.items()},
            "pictures": self.pictures,
            "films": {name: film.to_json() for name, film in self.films.items()},
            "meaning": FIGURES | FILM_FIGURES,
        }


def score(
    truths: References,
    guesses: Predictions,
    *,
    run: RunContext,
    device: torch.device,
    workers: int,
    show: Callable[[int], None] = lambda done: None,
    films: Mapping[str, VideoScore | None] | None = None,
) -> Scores:
    """Compare every guess with its truth.

    Args:
        truths: The photographs.
        guesses: Makes or finds the guess for each.
        run: Is told what fails and what is left out; its stop ends the work.
        device: Where the features for the Frechet distance are computed.
        workers: How many pictures are worked on at a time.
        show: Called with how many pictures are done.
        films: What `score_films` found, if there are films.

    Raises:
        UsageError: There is not one picture or film to score.
        RunAborted: There is not enough memory, or a device failed.
    """
    for broken in truths.refused:
        run.fail(broken, MediaError(broken.error))
    eyes = FeatureExtractor(device) if len(truths.names) >= LEAST and has_weights() else None
    whole, folders = Aggregator(), {_folder(name): Aggregator() for name in truths.names}
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
    about = truths.describe()
    scored = {name: film for name, film in (films or {}).items() if film}
    failed = len(truths.refused) + len(truths.names) - len(pictures) - grey + len(films or ()) - len(scored)
    if not (pictures or scored or failed):
        raise UsageError(
            f"every picture in {about['set']} is in black and white ({grey} in all); give others that are in colour"
        )
    if not (pictures or scored):
        raise UsageError(f"{about['set']}: none can be scored: {failed} failed, {grey} are in black and white")
    protocol: dict[str, str | int | float] = {
        **about,
        "pictures": len(pictures),
        "left_out_grey": grey,
        "failed": failed,
        **({"films": len(scored), "frames": sum(film.frames for film in scored.values())} if films else {}),
        **guesses.describe(),
        "frechet": _frechet_note(len(pictures)),
        "version": f"bwpipe {__version__}",
    }
    standings = {name: tally.standing() for name, tally in sorted(folders.items()) if len(folders) > 1 and tally.pictures}
    return Scores(protocol, whole.standing() if pictures else None, standings, pictures, scored)


def _marked(
    truths: References, guesses: Predictions, eyes: FeatureExtractor | None, workers: int
) -> Iterator[tuple[str, ImageScores | MediaError | None]]:
    """The marks of each picture by name; instead, what is wrong with it, or None for one in black and white."""

    def work(name: str) -> ImageScores | MediaError | None:
        if torch.get_num_threads() > 1:  # it is a setting of this thread, and decides the order of sums
            torch.set_num_threads(1)
        try:
            truth = truths.read(name)
            return None if truth is None else score_image(truth, guesses(truth), eyes)
        except MediaError as error:
            return error
        except MemoryError as error:
            raise RunAborted(f"{name}: out of memory; use fewer `workers`, or a `size`") from error

    threads = torch.get_num_threads()
    try:
        yield from zip(truths.names, ordered_map(work, truths.names, workers), strict=True)
    finally:
        torch.set_num_threads(threads)  # a single worker works in this thread


def _folder(name: str) -> str:
    """The folder at the top that a picture is in; "." for one that is in none."""
    return next(iter(PurePosixPath(name).parts[:-1]), ".")


def _frechet_note(pictures: int) -> str:
    """What the protocol says of the Frechet distance."""
    if pictures < LEAST:
        return f"left out: {pictures} pictures are too few for it, it takes {LEAST}"
    if not has_weights():
        return f"left out: the package {PACKAGE} is not installed"
    return (
        f"of pictures squashed to {SIDE} x {SIDE}; where there are fewer than {LEAST} it is left out, since the covariance of "
        f"{LEAST - 1} features is not determined by them"
    )
