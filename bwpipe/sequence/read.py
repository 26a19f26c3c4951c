"""Reads a film of numbered files, segment by segment."""

from collections.abc import Callable, Iterator, Sequence

from bwpipe.core.frame import Frame, Unit
from bwpipe.core.parallel import ordered_map
from bwpipe.errors import MediaError
from bwpipe.sequence.file import FrameSequence, naming
from bwpipe.sequence.frames import FramePlanes, read_planes

Warn = Callable[[str], None]


class SequenceReader:
    """Reads consecutive segments of a film of numbered files, each frame once: those that the next one needs too are kept."""

    def __init__(self, film: FrameSequence, workers: int = 1) -> None:
        """Nothing is read yet; `workers` frames are read in parallel."""
        self.film = film
        self._workers = workers
        self._kept: dict[int, FramePlanes | None] = {}

    def frames(self, unit: Unit, context: int, *, warn: Warn) -> Iterator[Frame]:
        """The frames of a unit in order, with up to `context` frames on either side, marked as such.

        Segments read alone yield the same frames as segments read one after the other.

        Args:
            unit: The film, or a part of it.
            context: Number of context frames on either side of the unit.
            warn: Called for each loss, with a sentence that does not name the film.

        Raises:
            MediaError: A frame can't be read, or has another size or depth than the first; the message names it.
        """
        total = len(self.film.files)
        start, stop = unit.start, total if unit.stop is None else min(unit.stop, total)
        wanted = range(max(start - context, 0), min(stop + context, total))
        kept = {index: planes for index, planes in self._kept.items() if index in wanted}
        self._kept = {}
        missing = [index for index in wanted if index not in kept]
        read = ordered_map(self._read, missing, self._workers)
        try:
            for index in wanted:
                planes = kept[index] if index in kept else self._next(read, index, warn)
                if index >= stop - context:
                    self._kept[index] = planes
                if planes is not None:
                    yield self._frame(planes, unit, index, inside=start <= index < stop)
        finally:
            read.close()

    def sample(self, unit: Unit, indices: Sequence[int]) -> Iterator[Frame]:
        """The frames of a film at some indices, ascending; those that can't be read are left out, since reading says so."""
        read = ordered_map(self._read, indices, self._workers)
        try:
            for index, planes in zip(indices, read, strict=True):
                if isinstance(planes, FramePlanes):
                    yield self._frame(planes, unit, index, inside=True)
        finally:
            read.close()

    def close(self) -> None:
        """Release the frames that are kept."""
        self._kept.clear()

    def _frame(self, planes: FramePlanes, unit: Unit, index: int, *, inside: bool) -> Frame:
        film = self.film
        return Frame(
            luma=planes.luma,
            unit=unit,
            index=index,
            pts=int(film.times[index]),
            duration=film.duration(index),
            chroma=planes.chroma if film.colour != "grey" else None,
            alpha=planes.alpha if inside else None,
            context=not inside,
        )

    def _next(self, read: "Iterator[FramePlanes | MediaError]", index: int, warn: Warn) -> FramePlanes | None:
        """The next frame that is read; None for one that is left out."""
        found = next(read)
        if isinstance(found, MediaError):
            if not self.film.hold:
                raise found
            warn(f"frame {int(self.film.files.numbers[index])} can't be read, so that it is left out ({found})")
            return None
        return found

    def _check(self, planes: FramePlanes) -> None:
        """Raise MediaError for a frame that is not like the first one."""
        film, (height, width) = self.film, planes.luma.shape
        if (height, width) != (film.height, film.width):
            raise MediaError(f"is {width}x{height}, but the first frame is {film.width}x{film.height}")
        if planes.depth != film.depth:
            raise MediaError(f"has {planes.depth} bits, but the first frame has {film.depth}")

    def _read(self, index: int) -> FramePlanes | MediaError:
        film = self.film
        try:
            with naming(film.files.name(index)):
                planes = read_planes(film.files.path(index), film.form, transfer=film.transfer, max_pixels=film.max_pixels)
                self._check(planes)
        except MediaError as error:
            return error
        for plane in (planes.luma, planes.chroma, planes.alpha):
            if plane is not None:
                plane.flags.writeable = False
        return planes
