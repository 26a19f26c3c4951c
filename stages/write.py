"""The `write` stage."""

from collections.abc import Callable, Sequence
from pathlib import Path
from string import Formatter
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, PrivateAttr

from bwpipe import Count, Frame, MediaError, NoEffect, RunContext, Sink, Unit, stage
from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.provenance import KEPT, Provenance
from bwpipe.core.stage import Summary
from bwpipe.image.file import ImageFile
from bwpipe.image.write import TargetFormat, target_format, target_suffix, write_image
from bwpipe.motion.shot_report import ShotList
from bwpipe.pixels.chroma_upsampling import upsample_chroma
from bwpipe.pixels.ycbcr import to_codes
from bwpipe.verify.compare import check_output
from bwpipe.video.container import container_for, conversion_notes
from bwpipe.video.encoding import Encoding, check_encoding, chroma_grid, coded_depth
from bwpipe.video.file import VideoFile
from bwpipe.video.muxer import VideoMuxer
from bwpipe.video.segment_encoder import SegmentWriter


def _pattern(text: str) -> str:
    fields = [field for _, field, _, _ in Formatter().parse(text) if field is not None]
    if fields != ["stem"] or "/" in text or "\\" in text:
        raise ValueError('expected a name with {stem} in it once, such as "{stem}-coloured"')
    return text


@stage("write")
class Write(Sink):
    """Writes pictures and films in colour: luma and all else of the file kept, in a tree that mirrors the input's."""

    revision: ClassVar[int] = 3

    path: NoEffect[Path]
    """The folder for the output; created if missing."""
    name: NoEffect[Annotated[str, AfterValidator(_pattern)]] = "{stem}"
    """What files are called, without their ending: "{stem}-coloured", in quotes; {stem} is the input's name."""
    format: TargetFormat | None = None
    """The format of pictures; each one's own by default."""
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """Of JPEG pictures that were none before. One that was keeps its own quality, or better."""
    codec: str = "h264"
    """How films are coded: `h264`, `h265`, `av1`, `prores`, `ffv1` (lossless), `h264_nvenc`, `hevc_nvenc` and `av1_nvenc` on
    NVIDIA's chips, or another encoder of FFmpeg's."""
    crf: Annotated[float, Field(ge=0)] | None = None
    """Constant rate factor of films, or what the encoder has for it (`cq` of NVENC); lower is better and larger; visually
    lossless by default."""
    preset: str | None = None
    """The encoder's own word for how much time it takes; `medium` by default."""
    pix_fmt: str | None = None
    """The pixel format of films, by FFmpeg's name; the source's chroma grid and depth by default."""
    threads: Count = 4
    """Of a film's encoder. They change its bytes, so the number does not follow the machine's cores."""
    options: dict[str, str] = Field(default_factory=dict)
    """Further options of the encoder, by FFmpeg's names."""
    verify: NoEffect[bool] = False
    """Compare each finished file with its input, as `bwpipe verify` does; where more than colour differs, the file fails."""
    workers: NoEffect[Count] = 2
    """How many pictures are written at a time."""

    _run: RunContext = PrivateAttr()
    _told: set[VideoFile] = PrivateAttr(default_factory=set)
    _made_by: Provenance | None = PrivateAttr(default=None)
    _open: dict[Unit, tuple[AtomicFile, "_PictureTarget | _FilmTarget", ShotList]] = PrivateAttr(default_factory=dict)

    @property
    def encoding(self) -> Encoding:
        """How films are coded."""
        return Encoding(
            codec=self.codec, crf=self.crf, preset=self.preset, pix_fmt=self.pix_fmt, threads=self.threads, options=self.options
        )

    @property
    def folder(self) -> Path:
        """The folder for the output."""
        return self.path.expanduser().resolve()

    def target(self, unit: Unit) -> Path:
        """The file in that folder which mirrors the input's place."""
        media = unit.media
        if isinstance(media, VideoFile):
            suffix = container_for(media, self.encoding).suffix
        elif isinstance(media, ImageFile):
            suffix = target_suffix(media, target_format(media, self.format))
        else:
            suffix = media.name.suffix
        return self.folder / media.name.parent / f"{self.name.format(stem=media.name.stem)}{suffix}"

    def setup(self, run: RunContext) -> None:
        """Check that there is such an encoder. Raises UsageError."""
        check_encoding(self.encoding)
        self._run = run
        self._made_by = run.provenance(self)

    def open(self, unit: Unit) -> None:
        """Begin a file, or a fragment of a film."""
        draft = AtomicFile(self.fragment(unit) if unit.media.has_segments else self.target(unit), self.folder)
        try:
            self._open[unit] = draft, self._open_target(unit, draft.path), ShotList()
        except BaseException:
            draft.discard()
            raise

    def write(self, frame: Frame) -> None:
        """Add a frame; one whose chroma is unknown is written without colour."""
        _, target, shots = self._open[frame.unit]
        target.write(frame)
        shots.see(frame)

    def commit(self, unit: Unit) -> AtomicFile:
        """Finish the file, or the fragment. Raises MediaError."""
        draft, target, shots = self._open[unit]
        target.close()
        draft.notes = shots.text
        if self.verify and not isinstance(unit.media, VideoFile):  # a film is verified once it is joined
            check_output(unit.media, draft.path)
        del self._open[unit]
        return draft

    def summary(self, unit: Unit, notes: Sequence[str]) -> Summary:
        """How much the shots of a film flicker, and which are doubtful."""
        found = ShotList(notes)
        complaint = found.complaint()
        return Summary(
            lines=(f"{unit.name}: {'; '.join(found.describe())}",) if found.shots else (),
            warnings=(complaint,) if complaint else (),
            events=tuple(("shot", shot.to_json()) for shot in found.shots),
        )

    def abandon(self, unit: Unit) -> None:
        """Remove the unfinished file."""
        draft, target, _ = self._open.pop(unit, (None, None, None))
        if draft and target:
            target.abandon()
            draft.discard()

    def assemble(self, unit: Unit, fragments: Sequence[Path]) -> AtomicFile:
        """Join the fragments of a film, and copy its other streams in. Raises MediaError."""
        film = unit.media
        if not isinstance(film, VideoFile):
            raise TypeError(f"{film.name} is no film")
        self._tell_changes(film)
        draft = AtomicFile(self.target(unit), self.folder)
        try:
            writer = VideoMuxer(
                draft.path,
                film,
                self.encoding,
                stop=unit.stop,
                line=self._made_by.line() if self._made_by else "",
                warn=self._warner(film),
                tick=self._run.raise_if_stopped,
            )
            try:
                writer.join(fragments)
                writer.close()
            finally:
                writer.abandon()
            if self.verify:
                check_output(film, draft.path, tick=self._run.raise_if_stopped)
        except BaseException:
            draft.discard()
            raise
        return draft

    def _tell_changes(self, film: VideoFile) -> None:
        """Say once what becomes other than it was."""
        if film not in self._told:
            self._told.add(film)
            for text in conversion_notes(film, self.encoding):
                self._run.warn(text, film, each=True)

    def _warner(self, film: VideoFile) -> Callable[[str], None]:
        return lambda text: self._run.warn(text, film, each=True)

    def _open_target(self, unit: Unit, path: Path) -> "_PictureTarget | _FilmTarget":
        media = unit.media
        if isinstance(media, VideoFile):
            self._tell_changes(media)
            return _FilmTarget(SegmentWriter(path, media, self.encoding), media, self.encoding)
        if isinstance(media, ImageFile):
            target = target_format(media, self.format)
            return _PictureTarget(path, target, self.quality, self._made_by, lambda text: self._run.warn(text, media))
        raise TypeError(f"{media.name} is neither a picture nor a film")


class _PictureTarget:
    """A picture's file, which is written at once."""

    def __init__(
        self, path: Path, target: TargetFormat, quality: int, made_by: Provenance | None, warn: Callable[[str], None]
    ) -> None:
        self._path, self._target, self._quality, self._made_by, self._warn = path, target, quality, made_by, warn

    def write(self, frame: Frame) -> None:
        media = frame.unit.media
        chroma = _enlarged(frame, (media.height, media.width))
        line = self._made_by.line(coloured=KEPT not in frame.notes) if self._made_by else ""
        write_image(self._path, frame, chroma, target=self._target, quality=self._quality, line=line, warn=self._warn)

    def close(self) -> None:
        """There is nothing left to do."""

    def abandon(self) -> None:
        """There is nothing to let go of."""


class _FilmTarget:
    """A film's fragment, which grows frame by frame."""

    def __init__(self, writer: SegmentWriter, film: VideoFile, encoding: Encoding) -> None:
        self._writer, self._film = writer, film
        self._grid, self._depth = chroma_grid(film, encoding), coded_depth(film, encoding)
        self.close, self.abandon = writer.close, writer.abandon

    def write(self, frame: Frame) -> None:
        film = self._film
        black, white = (level << (self._depth - film.depth) for level in film.levels)
        chroma = to_codes(_enlarged(frame, (self._grid.height, self._grid.width)), film.matrix, self._depth, (black, white))
        if frame.pts is None:
            raise MediaError(f"frame {frame.index} has no time")
        self._writer.write(frame.luma, chroma, frame.pts, frame.duration)


def _enlarged(frame: Frame, size: tuple[int, int]) -> NDArray[np.float32]:
    """The chroma (2, *size) that is written, within the gamut; no colour where it is unknown."""
    if frame.chroma is None:
        return np.zeros((2, *size), np.float32)
    media = frame.unit.media
    return upsample_chroma(frame.chroma, frame.luma, media.levels, media.matrix, size)
