"""What frames are written into: the file of a picture, and the fragment of a film."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.frame import Frame, Luma, Media
from bwpipe.core.provenance import KEPT, LUMA, Provenance
from bwpipe.errors import MediaError
from bwpipe.image.write import TargetFormat, write_image
from bwpipe.pixels.chroma_upsampling import UpsampledChroma, upsample_chroma
from bwpipe.pixels.resize import resize_area
from bwpipe.pixels.ycbcr import ChromaBands, to_codes
from bwpipe.sequence.transfer import chroma_for_codes
from bwpipe.video.encoding import Encoding, chroma_grid, coded_depth, coded_levels
from bwpipe.video.file import FULL, VideoFile
from bwpipe.video.pixel_formats import in_depth
from bwpipe.video.segment_encoder import SegmentWriter

CODES = "chroma codes"
"""Key of the note on a film's frame that holds its `chroma_codes`, if they were computed ahead of the encoder."""
_MOST_IN_ONE_PIECE = 16_000_000
"""Pixels of a picture whose chroma is upsampled in one piece, as 0.1.0 did; it takes 23 bytes for each."""


def in_bands(media: Media) -> bool:
    """Whether a picture is so large that its chroma is computed in bands of rows; its rounding differs in the last bit."""
    return media.width * media.height > _MOST_IN_ONE_PIECE


class ImageTarget:
    """The output file of a picture, written in one call."""

    def __init__(
        self, path: Path, target: TargetFormat, quality: int, provenance: Provenance | None, warn: Callable[[str], None]
    ) -> None:
        """Nothing is opened yet; `provenance` and `warn` are for `write_image`."""
        self._path, self._target, self._quality, self._provenance, self._warn = path, target, quality, provenance, warn

    def write(self, frame: Frame) -> None:
        """Write the picture. Raises MediaError, OSError."""
        media = frame.unit.media
        chroma: ChromaBands | NDArray[np.float32]
        if frame.chroma is None:
            chroma = np.broadcast_to(np.zeros((2, 1, 1), np.float32), (2, *frame.luma.shape))
        elif in_bands(media):
            chroma = UpsampledChroma(frame.chroma, frame.luma, media.levels, media.matrix)
        else:
            chroma = upsampled(frame, (media.height, media.width))
        line = ""
        if self._provenance:
            line = self._provenance.line(coloured=KEPT not in frame.notes, luma_of_colour=LUMA in frame.notes)
        write_image(self._path, frame, chroma, target=self._target, quality=self._quality, line=line, warn=self._warn)

    def close(self) -> None:
        """Nothing to do."""

    def abandon(self) -> None:
        """Nothing to release."""


class SegmentTarget:
    """A fragment of a film, written frame by frame."""

    def __init__(self, writer: SegmentWriter, film: VideoFile, encoding: Encoding) -> None:
        """Write a film's frames to an open fragment."""
        self._writer, self.film, self._encoding = writer, film, encoding
        self.close, self.abandon, self.lost = writer.close, writer.abandon, writer.lost

    def write(self, frame: Frame) -> None:
        """Add a frame. Raises MediaError, OSError."""
        if frame.pts is None:
            raise MediaError(f"frame {frame.index} has no timestamp")
        codes = frame.notes.get(CODES)
        self._writer.write(
            frame.luma,
            chroma_codes(frame, self.film, self._encoding) if codes is None else codes,
            frame.pts,
            frame.duration,
            alpha=frame.alpha,
            side_data=frame.side_data,
            kept=KEPT in frame.notes,
            luma_of_colour=LUMA in frame.notes,
        )


def chroma_codes(frame: Frame, film: VideoFile, encoding: Encoding) -> Luma:
    """The chroma codes (2, h, w) to write for a film's frame: its own, if they are still its chroma, but for their depth."""
    grid, depth = chroma_grid(film, encoding), coded_depth(film, encoding)
    size, stored = (grid.height, grid.width), frame.stored
    if stored is not None and stored.chroma is frame.chroma and stored.codes.shape[1:] == size:
        return in_depth(stored.codes, film.depth, depth, full=film.tags.range == FULL)
    return to_codes(upsampled(frame, size), film.matrix, depth, coded_levels(film, depth))


def upsampled(frame: Frame, size: tuple[int, int]) -> NDArray[np.float32]:
    """The chroma (2, *size) to write, within the gamut; zero if the frame has none."""
    if frame.chroma is None:
        return np.zeros((2, *size), np.float32)
    media = frame.unit.media
    if media.curve is None:
        return upsample_chroma(frame.chroma, frame.luma, media.levels, media.matrix, size)
    shown, levels = media.on_display(frame.luma)
    chroma = upsample_chroma(frame.chroma, shown, levels, media.matrix, (media.height, media.width))
    chroma = chroma_for_codes(chroma, frame.luma, media.curve, media.matrix)
    return np.stack([resize_area(plane, size) for plane in chroma])
