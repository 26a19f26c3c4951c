"""The `write` stage."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePath
from string import Formatter
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, PrivateAttr

from bwpipe import Count, Frame, MediaError, NoEffect, RunContext, Sink, Unit, stage
from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.frame import Media
from bwpipe.core.inputs import expand_user, output_stem
from bwpipe.core.parallel import cores
from bwpipe.core.provenance import KEPT, LUMA
from bwpipe.core.segments import frames_fact
from bwpipe.core.stage import AddedLater, FilmsOnly, PicturesOnly
from bwpipe.core.summary import Summary
from bwpipe.image.file import ImageFile
from bwpipe.image.picture_note import PictureNote
from bwpipe.image.write import GREY_MODES, NO_METADATA, TargetFormat, target_format, target_suffix
from bwpipe.motion.shot_report import ShotList
from bwpipe.sequence.encode import FrameTarget
from bwpipe.sequence.file import FrameSequence
from bwpipe.sequence.naming import FRAME, without_number
from bwpipe.sequence.output import FrameOutput, FrameSegment
from bwpipe.sequence.targets import CODES, ImageTarget, SegmentTarget, chroma_codes, in_bands
from bwpipe.video.container import container_for, conversion_notes
from bwpipe.video.cropping import NO_CROPPING
from bwpipe.video.encoding import ContainerName, Encoding, check_encoding, coded_depth, encoder, pixel_format
from bwpipe.video.file import FULL, VideoFile
from bwpipe.video.muxer import VideoMuxer
from bwpipe.video.segment_encoder import SegmentWriter
from bwpipe.video.segment_outline import is_outline, is_outline_of, open_segment, outlines
from bwpipe.video.side_data import loss


def _check_name(text: str) -> str:
    if len(FRAME.findall(text)) > 1:
        raise ValueError('expected the number of a frame once, such as "{stem}_{frame:06d}"')
    fields = [tuple(field) for _, *field in Formatter().parse(FRAME.sub("", text)) if field[0] is not None]
    plain = all(not spec and not conversion for _, spec, conversion in fields)
    names = sorted(str(name) for name, _, _ in fields)
    if not plain or names not in (["stem"], ["stem", "suffix"]) or any(char in text for char in "/\\\0"):
        raise ValueError('expected a name that contains {stem} exactly once, such as "{stem}-coloured"')
    return text


@stage("write")
class Write(Sink):
    """Writes pictures and films in colour, keeping luma and everything else in the file, in a tree that mirrors the input's."""

    revision: ClassVar[int] = 6

    path: NoEffect[Path]
    """Output folder; created if missing."""
    name: NoEffect[Annotated[str, AfterValidator(_check_name)]] = "{stem}"
    """File name without extension, such as "{stem}-coloured", in quotes; {stem} is the input's name, and {suffix} its extension
    without the dot, to tell `reel.ts` from `reel.mkv`: "{stem}-{suffix}". Frames take a number too, in "{stem}_{frame:06d}" of
    six digits; by default they are called like the input's."""
    as_: NoEffect[Literal["film", "frames"] | None] = Field(default=None, alias="as")
    """Whether films become a `film` in one file, or `frames`, a numbered file each; by default what the input is. Frames keep
    the input's numbers; those of a film in one file are counted from 0."""
    format: PicturesOnly[FrameTarget | None] = None
    """Format of pictures, and of films as frames: each picture's own by default, and TIFF for frames of a film in one file. DPX
    has 10 bits and OpenEXR half precision; these two are for frames only."""
    quality: PicturesOnly[Annotated[int, Field(ge=1, le=100)]] = 95
    """JPEG quality of pictures from other formats, and of the chroma of all. JPEG inputs keep their luma exactly."""
    codec: FilmsOnly[str] = "h264"
    """Video encoder of films: `h264`, `h265`, `av1`, `prores`, `dnxhr`, `ffv1` (lossless), `h264_nvenc`, `hevc_nvenc` and
    `av1_nvenc` on NVIDIA GPUs, or another FFmpeg encoder."""
    crf: FilmsOnly[Annotated[float, Field(ge=0)] | None] = None
    """Constant rate factor of films, or the encoder's equivalent (`cq` of NVENC); lower means better quality and larger files;
    visually lossless by default."""
    preset: FilmsOnly[str | None] = None
    """The encoder's speed preset; `medium` by default."""
    pix_fmt: FilmsOnly[str | None] = None
    """Pixel format of films, by FFmpeg's name; by default the source's chroma subsampling, bit depth and alpha channel. With
    fewer bits than the source's, such as `yuv420p10le`, samples are rounded."""
    container: FilmsOnly[Annotated[ContainerName | None, AddedLater(without=None)]] = None
    """Container of films: `mkv`, `mov`, `mp4`, or `same`, the input's own; what it can't hold is left out, with a warning. By
    default the input's own kind if it can hold everything, else Matroska; for `ffv1` Matroska (RFC 9043), unless that would
    lose sound, subtitles or the aspect ratio."""
    threads: FilmsOnly[Count] = 4
    """Encoder threads of a film. They affect the output's bytes, so the default does not depend on the number of cores. VP8 has
    one."""
    options: FilmsOnly[dict[str, str]] = Field(default_factory=dict)
    """Further encoder options, by FFmpeg's names."""
    times: NoEffect[Literal["new", "keep"]] = "new"
    """Date of each finished file, which file browsers sort by: `new` is when it was written, `keep` when the input was last
    modified. It is set as a file is written; files that are done already keep theirs."""
    verify: NoEffect[bool] = False
    """Compare each finished file with its input, as `bwpipe verify` does; the file fails if anything but colour differs."""
    workers: NoEffect[Count] = Field(default_factory=lambda: max(2, cores()))
    """Number of pictures, or of frames as files, written in parallel, and of a film's frames whose chroma is upsampled in
    parallel; by default the number of cores, but at least 2."""

    _folder: Path | None = PrivateAttr(default=None)
    _run: RunContext = PrivateAttr()
    _open: dict[Unit, tuple[AtomicFile, ImageTarget | SegmentTarget | FrameSegment, ShotList]] = PrivateAttr(
        default_factory=dict
    )
    _reels: set[tuple[str, str, str]] = PrivateAttr(default_factory=set)
    _fitting: set[VideoFile] = PrivateAttr(default_factory=set)
    _patterns: set[PurePath] = PrivateAttr(default_factory=set)

    @property
    def encoding(self) -> Encoding:
        """The encoding of films."""
        return Encoding(
            codec=self.codec,
            crf=self.crf,
            preset=self.preset,
            pix_fmt=self.pix_fmt,
            container=self.container,
            threads=self.threads,
            options=self.options,
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
        if isinstance(media, FrameSequence):
            self._reels.add(media.files.key)
        if frames := self._frames(unit):
            self._patterns.add(frames.names.place / frames.names.pattern)
            return frames.target
        if isinstance(media, VideoFile):
            if media not in self._fitting:  # refused before the work begins
                pixel_format(media, self.encoding)
                self._fitting.add(media)
            suffix = container_for(media, self.encoding).suffix
        elif isinstance(media, ImageFile):
            suffix = target_suffix(media, self._image_target(media))
        else:
            suffix = media.name.suffix
        return self.folder / media.name.parent / f"{output_stem(without_number(self.name), media.name)}{suffix}"

    def _frames(self, unit: Unit | None) -> FrameOutput | None:
        """What writes a film as frames; None for what is not written so."""
        media = unit.media if unit else None
        if not isinstance(media, VideoFile) or not self._is_as_frames(media):
            return None
        return FrameOutput(
            media, self.folder, name=self.name, requested=self.format, quality=self.quality, workers=self.workers
        )

    def _is_as_frames(self, film: VideoFile) -> bool:
        """Whether a film is written as frames."""
        return (self.as_ or ("frames" if isinstance(film, FrameSequence) else "film")) == "frames"

    def _image_target(self, media: ImageFile) -> TargetFormat:
        """The format of a picture. Raises MediaError."""
        if self.format == "dpx" or self.format == "exr":  # noqa: PLR1714 (as types are narrowed)
            raise MediaError("DPX and OpenEXR are written as frames of films only; choose another `format`")
        return target_format(media, self.format)

    def keeps_fragments(self, unit: Unit) -> bool:
        """Those of films as frames, which tell the files."""
        return self._frames(unit) is not None

    def is_intact(self, unit: Unit, path: Path) -> bool:
        """Whether all frames of a film, or of its segment, are there, and the film of which a segment's outline is one."""
        if frames := self._frames(unit):
            return frames.is_intact(path)
        target = self.target(unit)
        return path == target or not is_outline(path) or is_outline_of(path, target)

    def outlines(self, unit: Unit, fragments: Sequence[Path]) -> Iterator[bytes]:
        """What is needed to cut the segments out of the film. Raises MediaError."""
        return outlines(self.target(unit), fragments, self._run.raise_if_stopped)

    def outlined(self, unit: Unit, fragments: Sequence[Path]) -> bool:
        """Whether there are outlines of all segments; the last one is written last."""
        return fragments[-1].exists() and is_outline_of(fragments[-1], self.target(unit))

    def in_the_way(self, unit: Unit) -> Path | None:
        """A file with the name of a frame that no run has written."""
        frames = self._frames(unit)
        return frames.in_the_way(unit.stop) if frames else None

    def recipe(self, unit: Unit | None = None) -> dict[str, Any]:
        """The options for its kind; of a picture the format that it is written in, and `quality` only for JPEG."""
        if frames := self._frames(unit):
            return {"stage": self.registered, **frames.recipe}
        recipe = super().recipe(unit)
        if unit and isinstance(unit.media, ImageFile):
            recipe["format"] = self._image_target(unit.media)
            if recipe["format"] != "jpeg":
                recipe.pop("quality", None)
        return recipe

    def revision_for(self, unit: Unit | None) -> int:
        """The latest only for what earlier ones lost or changed.

        Of films VP8 (6); where the index of MP4 and QuickTime files is (5); side data, alpha, cropping, and more than 8 bits in
        full range (4). Of pictures the luma of JPEG files, what scanners add to TIFF files, the ICC profile of grey ones, and
        the last bit of a few samples of large ones (4).
        """
        media = unit.media if unit else None
        if isinstance(media, VideoFile):
            if encoder(self.codec).name == "libvpx":
                return self.revision
            if container_for(media, self.encoding).muxer in {"mp4", "mov"}:
                return 5
            deep = media.tags.range == FULL and media.depth > 8
            return 4 if deep or media.alpha or media.carries or media.cropping != NO_CROPPING else 3
        if isinstance(media, ImageFile):
            target = self._image_target(media)
            again = media.format == "JPEG" and target == "jpeg"
            curve = media.grey_profile and media.mode in GREY_MODES and target not in NO_METADATA
            return 4 if again or curve or media.format == "TIFF" or in_bands(media) else 3
        return self.revision if unit is None else 3

    def setup(self, run: RunContext) -> None:
        """Check the encoding. Raises UsageError."""
        check_encoding(self.encoding)
        self._run = run
        for pattern in sorted(self._patterns):  # so that the next run knows them, whatever becomes of this one
            run.remember(frames_fact(pattern), lambda: True)

    def open(self, unit: Unit) -> None:
        """Open a file, or a fragment of a film."""
        if frames := self._frames(unit):
            self._open_frames(unit, frames)
            return
        file = AtomicFile(self.fragment(unit) if unit.media.has_segments else self.target(unit), self.folder)
        try:
            self._open[unit] = file, self._open_target(unit, file.path), ShotList()
        except BaseException:
            file.discard()
            raise

    def prepare(self, frame: Frame) -> Frame:
        """Compute the chroma codes of a film's frame."""
        media = frame.unit.media
        if not isinstance(media, VideoFile) or self._is_as_frames(media):
            return frame
        return replace(frame, notes={**frame.notes, CODES: chroma_codes(frame, media, self.encoding)})

    def write(self, frame: Frame) -> None:
        """Write a frame; without chroma it is written in grey."""
        file, target, shots = self._open[frame.unit]
        target.write(frame)
        shots.add_frame(frame)
        if isinstance(target, ImageTarget) and not file.notes:
            file.notes = PictureNote.of(frame).text

    def commit(self, unit: Unit) -> AtomicFile:
        """Finish the file or fragment. Raises MediaError."""
        file, target, shots = self._open[unit]
        target.close()
        file.notes = file.notes or shots.text
        if isinstance(target, SegmentTarget):
            self._warn_of_lost(target)
        elif isinstance(target, ImageTarget):
            self._set_times(unit.path, unit, file)
        if self.verify and not isinstance(unit.media, VideoFile):  # a film is verified after its fragments are joined
            self._verify(unit.media, file.path)
        del self._open[unit]
        return file

    def summary(self, unit: Unit, notes: Sequence[str]) -> Summary:
        """The flicker of a film's shots, which shots are doubtful, and how sure the network was of a picture."""
        if not isinstance(unit.media, VideoFile):
            return Summary(events=(("picture", PictureNote.read(notes).to_json()),))
        shots = ShotList(notes)
        doubt = shots.warning()
        return Summary(
            lines=(f"{unit.name}: {'; '.join(shots.describe())}",) if shots.shots else (),
            warnings=(doubt,) if doubt else (),
            events=tuple(("shot", {"number": number, **shot.to_json()}) for number, shot in enumerate(shots.shots, 1)),
            shots=tuple(shot.first for shot in shots.shots),
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
        if frames := self._frames(unit):
            if self.verify:
                self._verify(film, frames.pattern)
            return frames.finish(fragments)
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
                writer.join(fragments, self.target(unit))
                writer.close()
            finally:
                writer.abandon()
            self._set_times(unit.path, unit, file)
            if self.verify:
                self._verify(film, file.path)
        except BaseException:
            file.discard()
            raise
        return file

    def _verify(self, media: Media, path: Path) -> None:
        """Compare an output with its input. Raises MediaError."""
        from bwpipe.verify.compare import check_output  # takes as long to import as a picture takes to write

        check_output(media, path, said=self._run.said(media), tick=self._run.raise_if_stopped)

    def _line(self, unit: Unit, film: VideoFile, fragments: Sequence[Path]) -> str:
        """What the metadata of a film say about how it was made; empty if nothing is known."""
        provenance = self._run.provenance(self, unit)
        if provenance is None:
            return ""
        kept, luma_of_colour = True, False
        for path in fragments:
            with closing(open_segment(path)) as fragment:
                for packet in fragment.packets():
                    kept, luma_of_colour = kept and packet.kept, luma_of_colour or packet.luma_of_colour
        depth = coded_depth(film, self.encoding)
        fewer = f"{depth} bits" if depth < film.depth else ""
        return provenance.line(coloured=not kept, luma_of_colour=luma_of_colour, also=fewer)

    def _set_times(self, source: Path, unit: Unit, file: AtomicFile) -> None:
        """Give a finished file the date of its input, if so wished."""
        if self.times != "keep":
            return
        try:
            stat = source.stat()
            os.utime(file.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        except OSError as error:
            self._run.warn(f"its date can't be kept ({error.strerror})", unit.media)

    def _warn_of_lost(self, target: SegmentTarget) -> None:
        """Warn once of each kind of side data that the codec can't store."""
        for kind in sorted(target.lost):
            if self._run.first(id(self), "lost", target.film, kind):
                self._run.warn(loss(kind, self.codec), target.film, each=True)

    def _warn_of_changes(self, film: VideoFile) -> None:
        """Warn once about what the conversion changes."""
        if self._run.first(id(self), "changes", film):
            frames = self._frames(Unit(film))
            for text in frames.losses() if frames else conversion_notes(film, self.encoding):
                self._run.warn(text, film, each=True)

    def _warner(self, film: VideoFile) -> Callable[[str], None]:
        return lambda text: self._run.warn(text, film, each=True)

    def _open_frames(self, unit: Unit, frames: FrameOutput) -> None:
        """Open the record of a segment of a film that is written as frames. Raises MediaError, OSError."""
        self._warn_of_changes(frames.film)
        provenance = self._run.provenance(self, unit)

        def note(frame: Frame) -> str:
            return provenance.line(coloured=KEPT not in frame.notes, luma_of_colour=LUMA in frame.notes) if provenance else ""

        def date(source: Path, file: AtomicFile) -> None:
            self._set_times(source, unit, file)

        file, segment = frames.open(self.fragment(unit), self._reels, note=note, date=date, warn=self._warner(frames.film))
        self._open[unit] = file, segment, ShotList()

    def _open_target(self, unit: Unit, path: Path) -> ImageTarget | SegmentTarget:
        media = unit.media
        if isinstance(media, VideoFile):
            self._warn_of_changes(media)
            return SegmentTarget(SegmentWriter(path, media, self.encoding), media, self.encoding)
        if isinstance(media, ImageFile):
            target = self._image_target(media)
            provenance = self._run.provenance(self, unit)
            return ImageTarget(path, target, self.quality, provenance, lambda text: self._run.warn(text, media))
        raise TypeError(f"{media.name} is neither a picture nor a film")
