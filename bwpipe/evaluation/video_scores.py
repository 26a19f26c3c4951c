"""Films: how steady their chroma is, beside that of the truth."""

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
from bwpipe.metrics.temporal import SHORT, Steadiness, way
from bwpipe.pixels.levels import full_range
from bwpipe.pixels.orientation import upright
from bwpipe.pixels.resize import fit_short_side, resize_area, squash
from bwpipe.pixels.ycbcr import from_codes, rgb_to_ycbcr
from bwpipe.video.decoder import frames_from
from bwpipe.video.file import VideoFile
from bwpipe.video.pixel_formats import layout, luma_plane, plane

GREY = 0.5
"""Code values: a film whose chroma is shorter than that on average counts as black and white."""


class Pair(NamedTuple):
    """A frame of the truth, as `shots` leaves it, and the chroma (2, h, w) that was guessed of it, both as they are shown."""

    frame: Frame
    guess: Chroma


class VideoPredictions(Protocol):
    """Finds or makes the chroma of films."""

    def __call__(self, unit: Unit, frames: Iterator[Frame]) -> Iterator[Pair]:
        """Pair the frames of a truth with their guesses. Raises MediaError."""


@dataclass(frozen=True, slots=True)
class VideoScore:
    """How a film did.

    Attributes:
        frames: How many frames were compared.
        guess: Its figures, by `names.FILM_FIGURES`.
        truth: The source's own; None where it is in black and white.
    """

    frames: int
    guess: dict[str, float]
    truth: dict[str, float] | None

    @property
    def ratio(self) -> dict[str, float]:
        """The guess's figures as shares of the truth's."""
        truth = self.truth or {}
        return {name: value / truth[name] for name, value in self.guess.items() if truth.get(name)}

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"frames": self.frames, "guess": self.guess, "truth": self.truth, "ratio": self.ratio}


def score_videos(
    truths: Mapping[str, Unit], guesses: VideoPredictions, run: RunContext, show: Callable[[int], None] = lambda frames: None
) -> dict[str, VideoScore | None]:
    """Measure films one after another; one that can't be read fails in the run, and None stands for it.

    Args:
        truths: The sources, by name: in colour, or what was coloured.
        guesses: Gives the chroma of each.
        run: Is told what fails; its stop ends the work.
        show: Called with how many frames are done.
    """
    made: dict[str, VideoScore | None] = {}
    done = 0
    for name, unit in truths.items():
        try:
            scores = _score(guesses(unit, _seen(unit)), run, partial(_show, show, done))
        except MediaError as error:
            run.fail(unit, error)
            made[name] = None
            continue
        made[name] = scores
        done += scores.frames
    return made


def _show(show: Callable[[int], None], before: int, frames: int) -> None:
    show(before + frames)


def _score(pairs: Iterable[Pair], run: RunContext, show: Callable[[int], None]) -> VideoScore:
    guess, truth = Steadiness(), Steadiness()
    before: NDArray[np.uint8] | None = None
    frames = 0
    for frames, (frame, chroma) in enumerate(pairs, start=1):
        run.raise_if_stopped()
        motion = frame.motion
        assert isinstance(motion, Motion), "`shots` was here"
        size = before.shape if before is not None else fit_short_side(frame.luma.shape, SHORT)
        small: Any = squash(frame.luma, *size)
        luma = full_range(small, frame.unit.media.levels)
        moved = None if before is None or motion.cut else way(before, luma)
        for tally, planes in ((guess, chroma), (truth, frame.chroma)):
            tally.add(_on_grid(planes, luma.shape), moved, begins=motion.cut)
        before = luma
        show(frames)
    return VideoScore(frames, guess.figures(), truth.figures() if truth.strength > GREY else None)


def _on_grid(chroma: Chroma | None, size: tuple[int, ...]) -> NDArray[np.float32]:
    """Chroma (2, h, w) as (*size, 2) in code values."""
    if chroma is None:
        return np.zeros((*size, 2), np.float32)
    return 255 * squash(chroma.transpose(1, 2, 0).astype(np.float32), *size)


def _seen(unit: Unit) -> Iterator[Frame]:
    """The frames of a film in its own colours, with motion: where shots begin."""
    shots = stages["shots"]()
    assert isinstance(shots, UnitMap)
    yield from shots.apply(coloured(unit))


def coloured(unit: Unit) -> Iterator[Frame]:
    """The frames of a film with its own chroma, (2, h, w) on the film's grid or one with a short side of `SHORT`, upright.

    A film without chroma planes has none. Raises MediaError.
    """
    film = unit.media
    assert isinstance(film, VideoFile)
    for index, picture in frames_from(film, 0):
        form = layout(picture.format.name)
        luma: Any = upright(luma_plane(picture, film.matrix), film.orientation)
        chroma = None
        if form.kind == "rgb":
            rgb: Any = picture.to_ndarray(format="rgb24")
            chroma = _small(rgb_to_ycbcr(resize_area(rgb, fit_short_side(rgb.shape[:2], SHORT)), film.matrix)[1])
        elif form.kind == "yuv":
            plain = picture if form.plain == picture.format.name else picture.reformat(format=form.plain, threads=1)
            codes = [plane(plain, place, form.depth) for place in (1, 2)]
            stored: Any = np.stack(codes)
            chroma = _small(from_codes(stored, film.matrix, form.depth, film.levels))
        if chroma is not None:
            chroma = upright(chroma, film.orientation)
        yield Frame(luma, unit, index=index, pts=int(film.times[index]), chroma=chroma)


def _small(chroma: Chroma) -> Chroma:
    """Chroma on a grid no finer than it is compared on."""
    size = fit_short_side(chroma.shape[1:], SHORT)
    made = np.stack([resize_area(each.astype(np.float32), size) for each in chroma])
    return made.astype(np.float16)


class NetworkVideos:
    """What a network thinks of each frame by itself, as in a graph without `steady`."""

    def __init__(self, network: NetworkPredictions) -> None:
        """The network, and how it is used."""
        self._network = network

    def __call__(self, unit: Unit, frames: Iterator[Frame]) -> Iterator[Pair]:
        """Guess from the luma alone. Raises MemoryError, RunAborted."""
        return (Pair(frame, self._network.chroma(full_range(frame.luma, unit.media.levels))) for frame in frames)


class VideoFiles:
    """Films that someone or something coloured."""

    def __init__(self, films: Mapping[Unit, Unit], run: RunContext) -> None:
        """`films` says which film is the guess of a truth; the run is told where one of them is longer."""
        self._films, self._run = films, run

    def __call__(self, unit: Unit, frames: Iterator[Frame]) -> Iterator[Pair]:
        """Read the guess of a film beside it. Raises MediaError, which names the file."""
        other = self._films[unit]
        common = min(unit.media.frames or 0, other.media.frames or 0)
        if unit.media.frames != other.media.frames:
            text = f"its guess has {other.media.frames} frames and it has {unit.media.frames}: the first {common} are compared"
            self._run.warn(text, unit.media, each=True)
        for frame, guess in zip_longest(frames, self._read(other)):
            if max(-1 if each is None else each.index for each in (frame, guess)) >= common:
                return
            if frame is None or guess is None or frame.index != guess.index:
                lost = min(common if each is None else each.index for each in (frame, guess)) - 1
                raise MediaError(f"after frame {lost} one of it or of its guess {other.path} does not decode; repair that film")
            if guess.chroma is None:
                raise MediaError(f"its guess {other.path} has no chroma: give a film in colour")
            yield Pair(frame, guess.chroma)

    def _read(self, unit: Unit) -> Iterator[Frame]:
        try:
            yield from coloured(unit)
        except MediaError as error:
            raise MediaError(f"its guess {unit.path}: {error}") from error
