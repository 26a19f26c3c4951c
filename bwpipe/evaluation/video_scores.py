"""Temporal consistency of a video's chroma, beside that of the reference."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.context import RunContext
from bwpipe.core.frame import Chroma, Frame, Motion, Unit
from bwpipe.core.stage import UnitMap, stages
from bwpipe.errors import MediaError
from bwpipe.evaluation.predictions import NetworkPredictions
from bwpipe.metrics.temporal import SHORT, Steadiness, flow_pair
from bwpipe.pixels.levels import full_range
from bwpipe.pixels.orientation import upright
from bwpipe.pixels.resize import fit_short_side, resize_area, squash
from bwpipe.pixels.ycbcr import from_codes, rgb_to_ycbcr
from bwpipe.video.decoder import frames_from
from bwpipe.video.file import VideoFile
from bwpipe.video.pixel_formats import chroma_codes, layout, luma_plane

GREY = 0.5
"""A video whose mean chroma length is below this, in code values, counts as black and white."""


class Pair(NamedTuple):
    """A frame of the reference, as `shots` leaves it, and the chroma (2, h, w) predicted for it, both upright."""

    frame: Frame
    prediction: Chroma


class VideoPredictions(Protocol):
    """Predicts or reads the chroma of videos."""

    def __call__(self, unit: Unit, frames: Iterator[Frame]) -> Iterator[Pair]:
        """Pair the frames of a reference with their predictions. Raises MediaError."""


@dataclass(frozen=True, slots=True)
class VideoScore:
    """The scores of a video.

    Attributes:
        frames: Number of frames compared.
        prediction: The prediction's figures, by the names of `FILM_FIGURES`.
        reference: The reference's own figures; None if it is in black and white.
    """

    frames: int
    prediction: dict[str, float]
    reference: dict[str, float] | None

    @property
    def ratio(self) -> dict[str, float]:
        """The prediction's figures relative to the reference's."""
        reference = self.reference or {}
        return {name: value / reference[name] for name, value in self.prediction.items() if reference.get(name)}

    def to_json(self) -> dict[str, Any]:
        """As JSON-serialisable values."""
        return {"frames": self.frames, "guess": self.prediction, "truth": self.reference, "ratio": self.ratio}


def score_videos(
    references: Mapping[str, Unit],
    predictions: VideoPredictions,
    run: RunContext,
    show: Callable[[int], None] = lambda frames: None,
) -> dict[str, VideoScore | None]:
    """Score videos one after another; one that cannot be read is reported as failed in the run and scored as None.

    Args:
        references: The sources, by name: in colour, or in the black and white that was coloured.
        predictions: Gives the chroma of each.
        run: Receives failures; stopping it stops the work.
        show: Called with the number of frames done.
    """
    results: dict[str, VideoScore | None] = {}
    done = 0
    for name, unit in references.items():
        try:
            scores = _score(predictions(unit, _with_motion(unit)), run, partial(_show, show, done))
        except MediaError as error:
            run.fail(unit, error)
            results[name] = None
            continue
        results[name] = scores
        done += scores.frames
    return results


def _show(show: Callable[[int], None], before: int, frames: int) -> None:
    show(before + frames)


def _score(pairs: Iterable[Pair], run: RunContext, show: Callable[[int], None]) -> VideoScore:
    prediction, reference = Steadiness(), Steadiness()
    before: NDArray[np.uint8] | None = None
    frames = 0
    for frames, (frame, chroma) in enumerate(pairs, start=1):
        run.raise_if_stopped()
        motion = frame.motion
        assert isinstance(motion, Motion), "`shots` sets it"
        size = before.shape if before is not None else fit_short_side(frame.luma.shape, SHORT)
        small: Any = squash(frame.luma, *size)
        luma = full_range(small, frame.unit.media.levels)
        flow = None if before is None or motion.cut else flow_pair(before, luma)
        for accumulator, planes in ((prediction, chroma), (reference, frame.chroma)):
            accumulator.add(_on_grid(planes, luma.shape), flow, begins=motion.cut, luma=luma)
        before = luma
        show(frames)
    return VideoScore(frames, prediction.figures(), reference.figures() if reference.strength > GREY else None)


def _on_grid(chroma: Chroma | None, size: tuple[int, ...]) -> NDArray[np.float32]:
    """Chroma (2, h, w) as (*size, 2) in code values."""
    if chroma is None:
        return np.zeros((*size, 2), np.float32)
    return 255 * squash(chroma.transpose(1, 2, 0).astype(np.float32), *size)


def _with_motion(unit: Unit) -> Iterator[Frame]:
    """The frames of a video in its own colours, with motion and shot boundaries."""
    shots = stages["shots"]()
    assert isinstance(shots, UnitMap)
    yield from shots.apply(coloured(unit))


def coloured(unit: Unit) -> Iterator[Frame]:
    """The frames of a video with its own chroma, upright, (2, h, w) on the video's grid or one with a short side of `SHORT`.

    Without chroma planes there is no chroma. Raises MediaError.
    """
    video = unit.media
    assert isinstance(video, VideoFile)
    for index, image in frames_from(video, 0):
        form = layout(image.format.name)
        luma: Any = upright(luma_plane(image, video.matrix), video.orientation)
        chroma = None
        if form.kind == "rgb":
            rgb: Any = image.to_ndarray(format="rgb24")
            chroma = _small(rgb_to_ycbcr(resize_area(rgb, fit_short_side(rgb.shape[:2], SHORT)), video.matrix)[1])
        elif (codes := chroma_codes(image)) is not None:
            chroma = _small(from_codes(codes, video.matrix, form.depth, video.levels))
        if chroma is not None:
            chroma = upright(chroma, video.orientation)
        yield Frame(luma, unit, index=index, pts=int(video.times[index]), chroma=chroma)


def _small(chroma: Chroma) -> Chroma:
    """Chroma on a grid no finer than the one for comparison."""
    size = fit_short_side(chroma.shape[1:], SHORT)
    resized = np.stack([resize_area(each.astype(np.float32), size) for each in chroma])
    return resized.astype(np.float16)


class NetworkVideos:
    """A network's predictions for each frame by itself, as in a graph without `steady`."""

    def __init__(self, network: NetworkPredictions) -> None:
        """Wrap a network's predictions."""
        self._network = network

    def __call__(self, unit: Unit, frames: Iterator[Frame]) -> Iterator[Pair]:
        """Predict from the luma alone. Raises MemoryError, RunAborted."""
        return (Pair(frame, self._network.chroma(full_range(frame.luma, unit.media.levels))) for frame in frames)


class VideoFiles:
    """Coloured videos of any origin."""

    def __init__(self, videos: Mapping[Unit, Unit], run: RunContext) -> None:
        """`videos` maps references to their predictions; the run receives a warning if their lengths differ."""
        self._videos, self._run = videos, run

    def __call__(self, unit: Unit, frames: Iterator[Frame]) -> Iterator[Pair]:
        """Read a video and its prediction side by side. Raises MediaError, which names the file."""
        other = self._videos[unit]
        common = min(unit.media.frames or 0, other.media.frames or 0)
        if unit.media.frames != other.media.frames:
            text = (
                f"its prediction has {other.media.frames} frames, not {unit.media.frames}; only the first {common} are compared"
            )
            self._run.warn(text, unit.media, each=True)
        for frame, predicted in zip_longest(frames, self._read(other)):
            if max(-1 if each is None else each.index for each in (frame, predicted)) >= common:
                return
            if frame is None or predicted is None or frame.index != predicted.index:
                lost = min(common if each is None else each.index for each in (frame, predicted)) - 1
                raise MediaError(f"after frame {lost}, it or its prediction {other.path} does not decode; repair that film")
            if predicted.chroma is None:
                raise MediaError(f"its prediction {other.path} has no chroma; use a film in colour")
            yield Pair(frame, predicted.chroma)

    def _read(self, unit: Unit) -> Iterator[Frame]:
        try:
            yield from coloured(unit)
        except MediaError as error:
            raise MediaError(f"its prediction {unit.path}: {error}") from error
