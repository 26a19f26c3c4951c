"""The frames of a film."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from itertools import chain, dropwhile

import av.error
import cv2
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bwpipe.core.frame import Frame, Luma, Unit
from bwpipe.errors import MediaError
from bwpipe.video.file import VideoFile, open_container, video_stream
from bwpipe.video.interlacing import NEIGHBOURS, deinterlace
from bwpipe.video.pixel_formats import layout, luma_plane

Warn = Callable[[str], None]
"""Told of a loss that can't be helped, in a sentence without the file's name."""


class SharedDecoder:
    """Goes on decoding a film from segment to segment, where they are decoded in one go (`Unit.since`).

    Of a damaged film, what a frame becomes may depend on where decoding began. So a segment is always decoded from the same
    place on, which many share: what comes of that is the same whoever asked for it. A film that can't be entered midway has one
    such place, its start. Not for several segments at a time.
    """

    def __init__(self, film: VideoFile) -> None:
        """Nothing is opened yet."""
        self.film = film
        self._since = 0
        self._coming = frames_from(film, 0)
        self._recent: deque[tuple[int, VideoFrame]] = deque()
        self._gone = -1

    def frames(self, first: int, *, since: int, again: int) -> Iterator[tuple[int, VideoFrame]]:
        """Frames of the film, rising, each with its place in it, from 0.

        Args:
            first: The first that is wanted.
            since: The one that decoding is to begin for, `first` or one before it.
            again: From here on, frames that were taken can be asked for again: they are kept in memory.
        """
        since = since if len(self.film.keys) > 1 else 0
        if since != self._since or first <= self._gone:
            self.close()
            self._coming, self._since, self._gone = frames_from(self.film, since), since, -1
        yield from [placed for placed in self._recent if placed[0] >= first]
        while placed := self._next():
            self._recent.append(placed)
            while self._recent and self._recent[0][0] < again:
                self._gone, _ = self._recent.popleft()
            if placed[0] >= first:
                yield placed

    def close(self) -> None:
        """Let go of the decoder and of the frames that were kept."""
        self._coming.close()
        self._recent.clear()

    def _next(self) -> tuple[int, VideoFrame] | None:
        try:
            return next(self._coming, None)
        except BaseException:
            self._gone = len(self.film.times)  # the next segment begins anew, rather than with nothing
            raise


def read_video(unit: Unit, context: int = 0, *, warn: Warn, onward: SharedDecoder | None = None) -> Iterator[Frame]:
    """The frames of a unit in the order they are shown, and up to `context` marked ones before and after it.

    Segments read alone give the same frames as those read in a row. Times and durations are those of the file, in its time
    base. Frames that did not decode are left out, which is said after the last.

    Args:
        unit: A film, or a part of it.
        context: How many frames to give on either side of the unit.
        warn: Told of each loss.
        onward: What decodes the film, where segments are read in a row; else the unit has a decoder of its own.

    Raises:
        MediaError: No frame of the film can be decoded, or its depth, range or kind of colour changes midway.
    """
    film = unit.media
    if not isinstance(film, VideoFile):
        raise TypeError(f"{film.name} is no film")
    if not film.deinterlaced:
        yield from _as_stored(unit, film, context, warn=warn, onward=onward)
        return
    start, stop = _ends(unit, film)
    for frame in deinterlace(_as_stored(unit, film, context + NEIGHBOURS, warn=warn, onward=onward), film):
        if start - context <= frame.index < stop + context:
            yield frame


def _ends(unit: Unit, film: VideoFile) -> tuple[int, int]:
    """The first frame of a unit, and the one after its last."""
    total = len(film.times)
    return unit.start, total if unit.stop is None else min(unit.stop, total)


def _as_stored(unit: Unit, film: VideoFile, context: int, *, warn: Warn, onward: SharedDecoder | None) -> Iterator[Frame]:
    """The frames as the file has them; see `read_film`."""
    total, (start, stop) = len(film.times), _ends(unit, film)
    decoded = damaged = scaled = 0
    first, since = (max(place - context, 0) for place in (start, start if unit.since is None else unit.since))
    for index, picture in (onward or SharedDecoder(film)).frames(first, since=since, again=stop - context):
        if index >= min(stop + context, total):
            break
        inside = start <= index < stop
        decoded += inside
        damaged += inside and picture.is_corrupt
        scaled += inside and (picture.width, picture.height) != (film.width, film.height)
        yield Frame(
            luma=_fitted(picture, film, index),
            unit=unit,
            index=index,
            pts=int(film.times[index]),
            duration=film.duration(index),
            context=not inside,
        )
    if not decoded and stop - start == total:
        raise MediaError("none of its frames can be decoded")
    among = f"{stop - start} frames" if stop - start == total else f"frames {start} to {stop - 1}"
    if decoded < stop - start:
        warn(f"{stop - start - decoded} of {among} did not decode and are left out")
    if damaged:
        warn(f"{damaged} of {among} are damaged: the decoder filled them in")
    if scaled:
        warn(f"{scaled} of {among} have another size than the first and are scaled to {film.width}x{film.height}")


def packets(container: InputContainer, stream: VideoStream, key: int | None = None) -> "Iterator[Packet[VideoStream]]":
    """A film's packets, from the key frame with a time of decoding on, or from the start.

    Where a container seeks to a later key frame, it is from that. Damage that ends the file early ends them too: the index pass
    has noted it.
    """
    with suppress(av.error.FFmpegError):
        if key is not None:
            container.seek(key, stream=stream)
        all_of_them = (packet for packet in container.demux(stream) if packet.size)
        yield from all_of_them if key is None else dropwhile(lambda packet: not packet.is_keyframe, all_of_them)


def pictures(stream: VideoStream, packets: "Iterable[Packet[VideoStream]]") -> Iterator[VideoFrame | None]:
    """Decode packets; None for one that can't be decoded."""
    for packet in chain(packets, [None]):
        try:
            yield from stream.decode(packet)
        except av.error.FFmpegError:
            yield None


def frames_from(film: VideoFile, first: int) -> Generator[tuple[int, VideoFrame], None, None]:
    """The frames of a film from `first` on, rising, each with its place in it, from 0. Raises MediaError.

    Decoding starts at the last key frame before it. Where `first` does not come then, since a container seeks too late or a key
    frame needs others before it, earlier ones are tried, at last the film's start.
    """
    for key in _keys_before(film, first):
        frames = dropwhile(lambda placed: placed[0] < first, _decode(film, key))
        found = next(frames, None)
        if found and (found[0] == first or key is None):
            yield found
            yield from frames
            return


def _keys_before(film: VideoFile, first: int) -> Iterator[int | None]:
    """Decoding times of key frames to start at, nearest first in growing steps; None for the film's start."""
    place, step = int(np.searchsorted(film.keys[:, 0], first, side="right")) - 1, 1
    while place > 0:
        yield int(film.keys[place, 1])
        place, step = place - step, 2 * step
    yield None


def _decode(film: VideoFile, key: int | None) -> Generator[tuple[int, VideoFrame], None, None]:
    """Decode from a key frame on; each frame comes with its place in the film, rising."""
    with open_container(film.path) as container:
        stream = video_stream(container, film.picture)
        if stream is None:
            raise MediaError("it has changed since it was opened")
        coded = packets(container, stream, key)
        free = 0
        if key is not None:
            head = next(coded, None)
            start = _key_place(film, head) if head else None
            if head is None or start is None:
                return
            # those shown before the key frame may need others that were not decoded
            free, coded = start, chain([head], coded)
        for number, picture in enumerate(pictures(stream, coded)):
            if picture is None:
                continue
            place = number if film.timing == "none" else _place(film, picture.pts)
            if film.timing == "partial" and (place is None or place < free):
                place = free
            if place is not None and free <= place < len(film.times):
                free = place + 1
                yield place, picture


def _key_place(film: VideoFile, packet: "Packet[VideoStream]") -> int | None:
    """The place of a key frame; None where it is not the one that the index pass has seen: some containers guess times anew."""
    place = _place(film, packet.pts)
    known = film.keys[film.keys[:, 0] == place, 2]
    return place if packet.size in known else None


def _place(film: VideoFile, pts: int | None) -> int | None:
    """The place of the frame that is shown at a time; None for a time that the index pass has not seen."""
    if pts is None:
        return None
    place = int(np.searchsorted(film.times, pts))
    return place if place < len(film.times) and film.times[place] == pts else None


def _fitted(picture: VideoFrame, film: VideoFile, index: int) -> Luma:
    """The luma of a picture, scaled to the film's size where its own is another. Raises MediaError where its codes differ."""
    form, begun = picture.format.name, film.pix_fmt
    if form != begun and _codes(form) != _codes(begun):
        raise MediaError(f"frame {index} is {form} after {begun}: films that change like this midway are to be cut there first")
    luma = luma_plane(picture, film.matrix)
    if luma.shape == (film.height, film.width):
        return luma
    larger = luma.shape[0] * luma.shape[1] > film.height * film.width
    way = cv2.INTER_AREA if larger else cv2.INTER_CUBIC
    scaled: Luma = np.asarray(cv2.resize(luma, (film.width, film.height), interpolation=way), luma.dtype)  # type: ignore[assignment]
    scaled.flags.writeable = False
    return scaled


def _codes(pix_fmt: str) -> tuple[str | int | bool, ...]:
    """What makes luma codes of two pixel formats mean the same."""
    form = layout(pix_fmt)
    return form.depth, form.kind == "rgb", pix_fmt.startswith("yuvj")
