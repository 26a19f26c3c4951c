"""The `write` stage."""

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, PrivateAttr

from bwpipe import Count, Frame, MediaError, NoEffect, RunContext, Sink, Unit, stage
from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.frame import Luma, Media
from bwpipe.core.inputs import expand_user, output_stem
from bwpipe.core.parallel import cores
from bwpipe.core.provenance import KEPT, LUMA, Provenance
from bwpipe.core.stage import FilmsOnly, PicturesOnly, Summary
from bwpipe.image.file import ImageFile
from bwpipe.image.write import GREY_MODES, NO_METADATA, TargetFormat, target_format, target_suffix, write_image
from bwpipe.motion.shot_report import ShotList
from bwpipe.pixels.chroma_upsampling import UpsampledChroma, upsample_chroma
from bwpipe.pixels.resize import resize_area
from bwpipe.pixels.ycbcr import ChromaBands, to_codes
from bwpipe.sequence.transfer import chroma_for_codes
from bwpipe.verify.compare import check_output
from bwpipe.video.container import container_for, conversion_notes
from bwpipe.video.cropping import NO_CROPPING
from bwpipe.video.encoding import Encoding, check_encoding, chroma_grid, coded_depth, coded_levels
from bwpipe.video.file import FULL, VideoFile
from bwpipe.video.muxer import VideoMuxer
from bwpipe.video.pixel_formats import in_depth
from bwpipe.video.segment_encoder import SegmentWriter
from bwpipe.video.segment_file import Fragment
from bwpipe.video.side_data import loss

_CODES = "chroma codes"
"""Key of the note on a frame that holds what `Write.prepare` computes for it."""
_MOST_IN_ONE_PIECE = 16_000_000
"""Pixels of a picture whose chroma is upsampled in one piece, as 0.1.0 did; it takes 23 bytes for each."""


def _check_name(text: str) -> str:
    fields = [tuple(field) for _, *field in Formatter().parse(text) if field[0] is not None]
    plain = all(not spec and not conversion for _, spec, conversion in fields)
    names = sorted(str(name) for name, _, _ in fields)
    if not plain or names not in (["stem"], ["stem", "suffix"]) or any(char in text for char in "/\\\0"):
        raise ValueError('expected a name that contains {stem} exactly once, such as "{stem}-coloured"')
    return text


@stage("write")
class Write(Sink):
    """Writes pictures and films in colour, keeping luma and everything else in the file, in a tree that mirrors the input's."""

    revision: ClassVar[int] = 4

    path: NoEffect[Path]
    """Output folder; created if missing."""
    name: NoEffect[Annotated[str, AfterValidator(_check_name)]] = "{stem}"
    """File name without extension, such as "{stem}-coloured", in quotes; {stem} is the input's name, and {suffix} its extension
    without the dot, to tell `reel.ts` from `reel.mkv`: "{stem}-{suffix}"."""
    format: PicturesOnly[TargetFormat | None] = None
    """Format of pictures; each picture's own by default."""
    quality: PicturesOnly[Annotated[int, Field(ge=1, le=100)]] = 95
    """JPEG quality of pictures from other formats, and of the chroma of all. JPEG inputs keep their luma exactly."""
    codec: FilmsOnly[str] = "h264"
    """Video encoder of films: `h264`, `h265`, `av1`, `prores`, `ffv1` (lossless), `h264_nvenc`, `hevc_nvenc` and `av1_nvenc` on
    NVIDIA GPUs, or another FFmpeg encoder."""
    crf: FilmsOnly[Annotated[float, Field(ge=0)] | None] = None
    """Constant rate factor of films, or the encoder's equivalent (`cq` of NVENC); lower means better quality and larger files;
    visually lossless by default."""
    preset: FilmsOnly[str | None] = None
    """The encoder's speed preset; `medium` by default."""
    pix_fmt: FilmsOnly[str | None] = None
    """Pixel format of films, by FFmpeg's name; by default the source's chroma subsampling, bit depth and alpha channel. With
    fewer bits than the source's, such as `yuv420p10le`, samples are rounded."""
    threads: FilmsOnly[Count] = 4
    """Encoder threads of a film. They affect the output's bytes, so the default does not depend on the number of cores."""
    options: FilmsOnly[dict[str, str]] = Field(default_factory=dict)
    """Further encoder options, by FFmpeg's names."""
    times: NoEffect[Literal["new", "keep"]] = "new"
    """Date of each finished file, which file browsers sort by: `new` is when it was written, `keep` when the input was last
    modified. It is set as a file is written; files that are done already keep theirs."""
    verify: NoEffect[bool] = False
    """Compare each finished file with its input, as `bwpipe verify` does; the file fails if anything but colour differs."""
    workers: NoEffect[Count] = Field(default_factory=lambda: max(2, cores()))
    """Number of pictures written in parallel, and of a film's frames whose chroma is upsampled in parallel; by default the
    number of cores, but at least 2."""

    _folder: Path | None = PrivateAttr(default=None)
    _run: RunContext = PrivateAttr()
    _open: dict[Unit, tuple[AtomicFile, "_ImageTarget | _VideoTarget", ShotList]] = PrivateAttr(default_factory=dict)

    @property
    def encoding(self) -> Encoding:
        """The encoding of films."""
        return Encoding(
            codec=self.codec, crf=self.crf, preset=self.preset, pix_fmt=self.pix_fmt, threads=self.threads, options=self.options
        )

    @property
    def folder(self) -> Path:
        """The output folder: what the path led to when it was first asked for, whatever becomes of its links."""
        if self._folder is None:
            self._folder = Path(os.path.realpath(expand_user(self.path)))  # unlike `resolve`, no error for a link to itself
        return self._folder

    def target(self, unit: Unit) -> Path:
        """The output file, which mirrors the input's place."""
        media = unit.media
        if isinstance(media, VideoFile):
            suffix = container_for(media, self.encoding).suffix
        elif isinstance(media, ImageFile):
            suffix = target_suffix(media, target_format(media, self.format))
        else:
            suffix = media.name.suffix
        return self.folder / media.name.parent / f"{output_stem(self.name, media.name)}{suffix}"

    def recipe(self, unit: Unit | None = None) -> dict[str, Any]:
        """The options for its kind; of a picture the format that it is written in, and `quality` only for JPEG."""
        recipe = super().recipe(unit)
        if unit and isinstance(unit.media, ImageFile):
            recipe["format"] = target_format(unit.media, self.format)
            if recipe["format"] != "jpeg":
                recipe.pop("quality", None)
        return recipe

    def revision_for(self, unit: Unit | None) -> int:
        """The latest only for what earlier ones lost or changed.

        Of films side data, an alpha channel, cropping, and more than 8 bits in full range; of pictures the luma of JPEG files,
        what scanners add to TIFF files, the ICC profile of grey ones, and the last bit of a few samples of large ones.
        """
        media = unit.media if unit else None
        if isinstance(media, VideoFile):
            deep = media.tags.range == FULL and media.depth > 8
            return self.revision if deep or media.alpha or media.carries or media.cropping != NO_CROPPING else 3
        if isinstance(media, ImageFile):
            target = target_format(media, self.format)
            again = media.format == "JPEG" and target == "jpeg"
            curve = media.grey_profile and media.mode in GREY_MODES and target not in NO_METADATA
            return self.revision if again or curve or media.format == "TIFF" or _in_bands(media) else 3
        return self.revision if unit is None else 3

    def setup(self, run: RunContext) -> None:
        """Check the encoding. Raises UsageError."""
        check_encoding(self.encoding)
        self._run = run

    def open(self, unit: Unit) -> None:
        """Open a file, or a fragment of a film."""
        file = AtomicFile(self.fragment(unit) if unit.media.has_segments else self.target(unit), self.folder)
        try:
            self._open[unit] = file, self._open_target(unit, file.path), ShotList()
        except BaseException:
            file.discard()
            raise

    def prepare(self, frame: Frame) -> Frame:
        """Compute the chroma codes of a film's frame."""
        if not isinstance(frame.unit.media, VideoFile):
            return frame
        codes = _codes(frame, frame.unit.media, self.encoding)
        return replace(frame, notes={**frame.notes, _CODES: codes})

    def write(self, frame: Frame) -> None:
        """Write a frame; without chroma it is written in grey."""
        _, target, shots = self._open[frame.unit]
        target.write(frame)
        shots.add_frame(frame)

    def commit(self, unit: Unit) -> AtomicFile:
        """Finish the file or fragment. Raises MediaError."""
        file, target, shots = self._open[unit]
        target.close()
        file.notes = shots.text
        if isinstance(target, _VideoTarget):
            self._warn_of_lost(target)
        else:
            self._set_times(unit, file)
        if self.verify and not isinstance(unit.media, VideoFile):  # a film is verified after its fragments are joined
            check_output(unit.media, file.path, said=self._run.said(unit.media))
        del self._open[unit]
        return file

    def summary(self, unit: Unit, notes: Sequence[str]) -> Summary:
        """The flicker of a film's shots, and which shots are doubtful."""
        shots = ShotList(notes)
        doubt = shots.warning()
        return Summary(
            lines=(f"{unit.name}: {'; '.join(shots.describe())}",) if shots.shots else (),
            warnings=(doubt,) if doubt else (),
            events=tuple(("shot", shot.to_json()) for shot in shots.shots),
        )

    def abandon(self, unit: Unit) -> None:
        """Remove the unfinished file."""
        file, target, _ = self._open.pop(unit, (None, None, None))
        if file and target:
            target.abandon()
            file.discard()

    def close(self) -> None:
        """Look for the folder again in another run."""
        self._folder = None

    def assemble(self, unit: Unit, fragments: Sequence[Path]) -> AtomicFile:
        """Join the fragments of a film and copy its other streams. Raises MediaError."""
        film = unit.media
        if not isinstance(film, VideoFile):
            raise TypeError(f"{film.name} is not a film")
        self._warn_of_changes(film)
        file = AtomicFile(self.target(unit), self.folder)
        try:
            writer = VideoMuxer(
                file.path,
                film,
                self.encoding,
                stop=unit.stop,
                line=self._line(unit, film, fragments),
                warn=self._warner(film),
                tick=self._run.raise_if_stopped,
            )
            try:
                writer.join(fragments)
                writer.close()
            finally:
                writer.abandon()
            self._set_times(unit, file)
            if self.verify:
                check_output(film, file.path, said=self._run.said(film), tick=self._run.raise_if_stopped)
        except BaseException:
            file.discard()
            raise
        return file

    def _line(self, unit: Unit, film: VideoFile, fragments: Sequence[Path]) -> str:
        """What the metadata of a film say about how it was made; empty if nothing is known."""
        provenance = self._run.provenance(self, unit)
        if provenance is None:
            return ""
        kept, luma_of_colour = True, False
        for path in fragments:
            with closing(Fragment(path)) as fragment:
                for packet in fragment.packets():
                    kept, luma_of_colour = kept and packet.kept, luma_of_colour or packet.luma_of_colour
        depth = coded_depth(film, self.encoding)
        fewer = f"{depth} bits" if depth < film.depth else ""
        return provenance.line(coloured=not kept, luma_of_colour=luma_of_colour, also=fewer)

    def _set_times(self, unit: Unit, file: AtomicFile) -> None:
        """Give a finished file the date of its input, if so wished."""
        if self.times != "keep":
            return
        try:
            stat = unit.path.stat()
            os.utime(file.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        except OSError as error:
            self._run.warn(f"its date can't be kept ({error.strerror})", unit.media)

    def _warn_of_lost(self, target: "_VideoTarget") -> None:
        """Warn once of each kind of side data that the codec can't store."""
        for kind in sorted(target.lost):
            if self._run.first(id(self), "lost", target.film, kind):
                self._run.warn(loss(kind, self.codec), target.film, each=True)

    def _warn_of_changes(self, film: VideoFile) -> None:
        """Warn once about what the conversion changes."""
        if self._run.first(id(self), "changes", film):
            for text in conversion_notes(film, self.encoding):
                self._run.warn(text, film, each=True)

    def _warner(self, film: VideoFile) -> Callable[[str], None]:
        return lambda text: self._run.warn(text, film, each=True)

    def _open_target(self, unit: Unit, path: Path) -> "_ImageTarget | _VideoTarget":
        media = unit.media
        if isinstance(media, VideoFile):
            self._warn_of_changes(media)
            return _VideoTarget(SegmentWriter(path, media, self.encoding), media, self.encoding)
        if isinstance(media, ImageFile):
            target = target_format(media, self.format)
            provenance = self._run.provenance(self, unit)
            return _ImageTarget(path, target, self.quality, provenance, lambda text: self._run.warn(text, media))
        raise TypeError(f"{media.name} is neither a picture nor a film")


def _in_bands(media: Media) -> bool:
    """Whether a picture is so large that its chroma is computed in bands of rows; its rounding differs in the last bit."""
    return media.width * media.height > _MOST_IN_ONE_PIECE


class _ImageTarget:
    """The output file of a picture, written in one call."""

    def __init__(
        self, path: Path, target: TargetFormat, quality: int, provenance: Provenance | None, warn: Callable[[str], None]
    ) -> None:
        self._path, self._target, self._quality, self._provenance, self._warn = path, target, quality, provenance, warn

    def write(self, frame: Frame) -> None:
        media = frame.unit.media
        chroma: ChromaBands | NDArray[np.float32]
        if frame.chroma is None:
            chroma = np.broadcast_to(np.zeros((2, 1, 1), np.float32), (2, *frame.luma.shape))
        elif _in_bands(media):
            chroma = UpsampledChroma(frame.chroma, frame.luma, media.levels, media.matrix)
        else:
            chroma = _upsampled(frame, (media.height, media.width))
        line = ""
        if self._provenance:
            line = self._provenance.line(coloured=KEPT not in frame.notes, luma_of_colour=LUMA in frame.notes)
        write_image(self._path, frame, chroma, target=self._target, quality=self._quality, line=line, warn=self._warn)

    def close(self) -> None:
        """Nothing to do."""

    def abandon(self) -> None:
        """Nothing to release."""


class _VideoTarget:
    """A fragment of a film, written frame by frame."""

    def __init__(self, writer: SegmentWriter, film: VideoFile, encoding: Encoding) -> None:
        self._writer, self.film, self._encoding = writer, film, encoding
        self.close, self.abandon, self.lost = writer.close, writer.abandon, writer.lost

    def write(self, frame: Frame) -> None:
        if frame.pts is None:
            raise MediaError(f"frame {frame.index} has no timestamp")
        codes = frame.notes.get(_CODES)
        self._writer.write(
            frame.luma,
            _codes(frame, self.film, self._encoding) if codes is None else codes,
            frame.pts,
            frame.duration,
            alpha=frame.alpha,
            side_data=frame.side_data,
            kept=KEPT in frame.notes,
            luma_of_colour=LUMA in frame.notes,
        )


def _codes(frame: Frame, film: VideoFile, encoding: Encoding) -> Luma:
    """The chroma codes (2, h, w) to write for a film's frame: its own, if they are still its chroma, but for their depth."""
    grid, depth = chroma_grid(film, encoding), coded_depth(film, encoding)
    size, stored = (grid.height, grid.width), frame.stored
    if stored is not None and stored.chroma is frame.chroma and stored.codes.shape[1:] == size:
        return in_depth(stored.codes, film.depth, depth, full=film.tags.range == FULL)
    return to_codes(_upsampled(frame, size), film.matrix, depth, coded_levels(film, depth))


def _upsampled(frame: Frame, size: tuple[int, int]) -> NDArray[np.float32]:
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
