"""Compares predictions with references, image by image."""

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
    """The result of a comparison.

    Attributes:
        protocol: What was compared, and how.
        whole: Figures over all images; None if there are only videos.
        folders: Figures of each top-level folder; empty if there is only one.
        pictures: For each image, by name, the figures of the prediction and of the grey image.
        films: Figures of each video, by name.
    """

    protocol: dict[str, str | int | float]
    whole: AggregateScores | None
    folders: dict[str, AggregateScores]
    pictures: dict[str, dict[str, dict[str, float]]]
    films: dict[str, VideoScore] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        return {
            "protocol": self.protocol,
            "all": self.whole.to_json() if self.whole else None,
            "by_folder": {name: result.to_json() for name, result in self.folders.items()},
            "pictures": self.pictures,
            "films": {name: film.to_json() for name, film in self.films.items()},
            "meaning": FIGURES | FILM_FIGURES,
        }


def score(
    references: References,
    predictions: Predictions,
    *,
    run: RunContext,
    device: torch.device,
    workers: int,
    show: Callable[[int], None] = lambda done: None,
    films: Mapping[str, VideoScore | None] | None = None,
) -> Scores:
    """Compare every prediction with its reference.

    Args:
        references: The reference images.
        predictions: Makes or reads the prediction for each.
        run: Receives failures and exclusions; stopping it stops the work.
        device: Device on which the features for the Fréchet distance are computed.
        workers: Number of images scored at a time.
        show: Called with the number of images done.
        films: The result of `score_videos`, if there are videos.

    Raises:
        UsageError: There is no image or video to score.
        RunAborted: Out of memory, or a device failed.
    """
    for broken in references.refused:
        run.fail(broken, MediaError(broken.error))
    extractor = FeatureExtractor(device) if len(references.names) >= LEAST and has_weights() else None
    whole, folders = Aggregator(), {_folder(name): Aggregator() for name in references.names}
    pictures: dict[str, dict[str, dict[str, float]]] = {}
    grey = 0
    for done, (name, result) in enumerate(_image_scores(references, predictions, extractor, workers), start=1):
        run.raise_if_stopped()
        if isinstance(result, MediaError):
            run.fail(references.unit(name), result)
        elif result is None:
            grey += 1
        else:
            whole.add(result)
            folders[_folder(name)].add(result)
            pictures[name] = {"guess": result.prediction, "grey": result.grey}
        show(done)
    description = references.describe()
    scored = {name: film for name, film in (films or {}).items() if film}
    failed = len(references.refused) + len(references.names) - len(pictures) - grey + len(films or ()) - len(scored)
    if not (pictures or scored or failed):
        raise UsageError(f"every image in {description['set']} is in black and white ({grey} in total); use colour images")
    if not (pictures or scored):
        raise UsageError(f"{description['set']}: nothing can be scored: {failed} failed, {grey} in black and white")
    protocol: dict[str, str | int | float] = {
        **description,
        "pictures": len(pictures),
        "left_out_grey": grey,
        "failed": failed,
        **({"films": len(scored), "frames": sum(film.frames for film in scored.values())} if films else {}),
        **predictions.describe(),
        "frechet": _frechet_note(len(pictures)),
        "version": f"bwpipe {__version__}",
    }
    folder_scores = {
        name: aggregator.result() for name, aggregator in sorted(folders.items()) if len(folders) > 1 and aggregator.count
    }
    return Scores(protocol, whole.result() if pictures else None, folder_scores, pictures, scored)


def _image_scores(
    references: References, predictions: Predictions, extractor: FeatureExtractor | None, workers: int
) -> Iterator[tuple[str, ImageScores | MediaError | None]]:
    """The scores of each image by name; the error if it failed, None if it is in black and white."""

    def work(name: str) -> ImageScores | MediaError | None:
        if torch.get_num_threads() > 1:  # a per-thread setting that determines the order of summation
            torch.set_num_threads(1)
        try:
            reference = references.read(name)
            return None if reference is None else score_image(reference, predictions(reference), extractor)
        except MediaError as error:
            return error
        except MemoryError as error:
            raise RunAborted(f"{name}: out of memory; use fewer `workers`, or set `size`") from error

    threads = torch.get_num_threads()
    try:
        yield from zip(references.names, ordered_map(work, references.names, workers), strict=True)
    finally:
        torch.set_num_threads(threads)  # a single worker runs in this thread


def _folder(name: str) -> str:
    """The top-level folder of an image; "." if it is in none."""
    return next(iter(PurePosixPath(name).parts[:-1]), ".")


def _frechet_note(pictures: int) -> str:
    """The protocol's note on the Fréchet distance."""
    if pictures < LEAST:
        return f"left out: needs {LEAST} images, and there are {pictures}"
    if not has_weights():
        return f"left out: the package {PACKAGE} is not installed"
    return (
        f"of images squashed to {SIDE} x {SIDE}; left out for fewer than {LEAST} images, which do not determine "
        f"the covariance of {LEAST - 1} features"
    )
