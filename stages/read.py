"""The `read` stage."""

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from glob import has_magic
from pathlib import Path, PurePosixPath
from threading import enumerate as running_threads
from threading import get_ident
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PrivateAttr

from bwpipe import Broken, Count, Frame, MediaError, NoEffect, RunContext, Source, Unit, stage
from bwpipe.core.frame import Skipped
from bwpipe.core.inputs import PathText, expand_user, find_files, is_disc_menu, is_later_part, leads_outside, open_input
from bwpipe.core.memory import OUT_OF_MEMORY, is_out_of_memory, is_short
from bwpipe.core.ports import ScanCache
from bwpipe.core.stage import AddedLater, FilmsOnly
from bwpipe.errors import FATAL, RunAborted, UsageError, format_error
from bwpipe.image.file import HEAD, sniff
from bwpipe.image.open import open_image
from bwpipe.image.read import read_image
from bwpipe.sequence.file import FrameSequence
from bwpipe.sequence.find import ALONE, SequenceFinder, SequenceHints, parse_rate
from bwpipe.sequence.frames import is_frame_format
from bwpipe.sequence.numbering import names_frames
from bwpipe.sequence.read import SequenceReader
from bwpipe.video import file as video_file
from bwpipe.video.decoder import SharedDecoder, read_video, sample_video
from bwpipe.video.file import VideoFile
from bwpipe.video.interlacing import of_one_moment
from bwpipe.video.probe import open_video

_PICTURES = """
    arw avif bmp cin cr2 cr3 dcm dds dib dng dpx exr fff gif hdr heic heif ico ief iiq im j2c j2k jfif jp2 jpe
    jpeg jpf jpg jpx jxl mpo nef nrw orf pam pbm pcd pcx pef pfm pgm png pnm ppm psb psd raf ras raw rgb rw2 sgi
    sr2 srf srw svg tga tif tiff webp x3f xbm xcf xpm xwd
"""
_FILMS = """
    264 265 3g2 3gp asf avi divx dv f4v flv gxf h264 h265 hevc ivf m1v m2t m2ts m2v m4v mjpeg mjpg mkv mov movie
    mp4 mpe mpeg mpg mpv mts mxf nut ogv qt r3d rm rmvb ts vob webm wmv wtv y4m
"""
_MEDIA = frozenset(f".{ending}" for ending in f"{_PICTURES} {_FILMS}".split())
"""Endings of pictures and films, read or not. A file with one of them that can't be read has failed; others are skipped. The
list is our own, because what `mimetypes` knows depends on the machine."""
_UNREADABLE = (
    "it is not a picture or film in a supported format; "
    "convert it first, a picture to PNG, TIFF or JPEG, a film to MP4, MOV, MKV, AVI, MPEG or MXF"
)


@stage("read")
class Read(Source):
    """Reads pictures and films: a file, a folder with its subfolders, or a pattern. Recognises files by content, not name.

    A DVD's title that is cut into `VTS_01_1.VOB`, `VTS_01_2.VOB` and so on is one film, under the name of its first part. Of a
    folder, the menus beside titles, `VTS_01_0.VOB` and `VIDEO_TS.VOB`, are skipped.

    Numbered frames, as film scanners write them (TIFF, PNG, JPEG, DPX or OpenEXR), are one film where `sequence` says so.
    """

    path: NoEffect[PathText | Annotated[list[PathText], Field(min_length=1)]]
    """A file, a folder, or a pattern such as `scans/**/*.tif`, relative to the current folder; or a list of these, such as
    `[scans, film.mp4]`. Output names are relative to each folder; a file that is found twice is read once. With `rate`, a
    pattern such as `reel1_%06d.tif` or `reel1_*.dpx` is one film, whose frames are these files."""
    sequence: NoEffect[Literal["auto", True, False]] = "auto"
    """Whether numbered files are the frames of a film: `auto` takes a pattern with `rate` for one; `true` also takes files of a
    folder that differ only by a running number; `false` takes none."""
    rate: FilmsOnly[Annotated[int | float | str | None, AfterValidator(parse_rate), AddedLater(without=None)]] = None
    """Frames per second of numbered frames, such as `24` or `24000/1001`."""
    gaps: FilmsOnly[Annotated[Literal["refuse", "hold"], AddedLater(without="refuse")]] = "refuse"
    """Where numbers are missing, occur twice, or belong to a file that can't be read: `refuse` the film, or `hold` the frame
    before for longer."""
    transfer: FilmsOnly[Annotated[Literal["video", "log", "linear"] | None, AddedLater(without=None)]] = None
    """What the codes of numbered frames mean: `video` for a display, `log` (Cineon), or `linear` light; by default `log` where
    a DPX header says so, else `video`. The codes are kept in any case; networks see what a display would show."""
    sound: FilmsOnly[Annotated[str | None, AddedLater(without=None)]] = None
    """A file with the sound of numbered frames, such as `reel1.wav`, which begins with the first one."""
    frames: FilmsOnly[Count | None] = None
    """Read only this many frames of each film, for a trial."""
    picture: FilmsOnly[Count | None] = None
    """Which video stream to colour in a film with several, counted from 1; the others are copied. By default the first stream
    marked as default, or else the first. To colour another one too, run a graph with this option on the output."""
    deinterlace: FilmsOnly[Literal["off", "bwdif"]] = "off"
    """Interlaced films: `off` keeps them interlaced and flagged as such; `bwdif` deinterlaces them with FFmpeg's filter of that
    name, which changes the luma. The networks' input is a single field in either case."""
    max_pixels: NoEffect[Count] = 250_000_000
    """Pictures and films with more pixels than this are refused on reading their header: small files can hold huge images."""
    workers: NoEffect[Count] = 2
    """Number of pictures read in parallel."""

    _run: RunContext = PrivateAttr()
    _scans: ScanCache | None = PrivateAttr(default=None)
    _decoders: dict[int, SharedDecoder] = PrivateAttr(default_factory=dict)
    _places: dict[Path, str] = PrivateAttr(default_factory=dict)
    _readers: dict[int, SequenceReader] = PrivateAttr(default_factory=dict)
    _hints: SequenceHints = PrivateAttr(default_factory=SequenceHints)

    def setup(self, run: RunContext) -> None:
        """Keep the run, for warnings, and say what looks like a film."""
        self._run = run
        for text in self.remarks():
            run.warn(text)

    def remarks(self) -> Iterator[str]:
        """What looks like a film of numbered frames."""
        return self._hints.texts()

    def remember(self, scans: ScanCache) -> None:
        """Keep the cache of video indexes."""
        self._scans = scans

    def units(self) -> Iterator[Unit | Broken | Skipped]:
        """Every picture and film; what only has the name of one is broken, and other files are skipped."""
        paths = [self.path] if isinstance(self.path, str) else self.path
        seen: set[Path] = set()
        self._hints = SequenceHints()
        for given in paths:
            for found in self._units_of(given, alone=len(paths) == 1):
                if found.path not in seen:
                    seen.add(found.path)
                    if isinstance(found, Unit):
                        self._places[found.path] = os.path.realpath(found.path)
                    yield found

    def _units_of(self, given: str, *, alone: bool) -> Iterator[Unit | Broken | Skipped]:
        """What a path stands for; `alone` says that no other was given."""
        finder = self._finder(given)
        if finder:
            yield from finder.units()
            if not expand_user(given).is_dir():
                return
        named = expand_user(given).is_file()
        alone = alone and named
        for path, name in find_files(given):
            if (not alone and is_later_part(path)) or (finder and finder.owns(path)):
                continue
            if not alone and is_disc_menu(path):
                yield Skipped(path, name, "menus of DVDs, which `read` takes only if given alone")
                continue
            found = self._found(path, name, named=named, alone=alone)
            if not finder and not alone:
                self._hints.see(found)
            yield found

    def _finder(self, given: str) -> SequenceFinder | None:
        """What finds films of numbered frames; None if there are none to be found. Raises UsageError."""
        numbered = names_frames(given)
        pattern = numbered or (has_magic(given) and not os.path.lexists(expand_user(given)))
        if self.sequence is False or (self.sequence == "auto" and not numbered and not (pattern and self.rate)):
            if self.rate and not self.sequence:
                raise UsageError("`rate` is for numbered frames, but `sequence: false` takes no files for those; leave one out")
            if self.rate:
                raise UsageError(f"`rate` is for numbered frames, but {given} is no pattern for such; set `sequence: true`")
            return None
        if not self.rate:
            raise UsageError(f"{given} is one film of numbered frames; set `rate` to its frames per second, such as `rate: 24`")
        return SequenceFinder(
            given,
            rate=Fraction(self.rate),
            gaps=self.gaps,
            transfer=self.transfer,
            sound=self.sound,
            max_pixels=self.max_pixels,
            stop=self.frames,
            scans=self._scans,
        )

    def _found(self, path: Path, name: PurePosixPath, *, named: bool, alone: bool) -> Unit | Broken | Skipped:
        """What a file is, by its content; whatever is wrong with it concerns no other file.

        `named` says that its own name was given, `alone` that nothing else was: several names may come from a shell's `*`, and
        then a file of another kind is no error.
        """
        expected = alone or name.suffix.lower() in _MEDIA
        if path.is_symlink() and not named and (path.is_dir() or leads_outside(path, name)):
            return Broken(path, name, "it is a link out of the folder or to a folder; read its target separately")
        try:
            if unit := self._opened(path, name):
                return unit
            why = _UNREADABLE
        except (MediaError, MemoryError) as error:
            if is_out_of_memory(error):
                if is_short():  # then no file is to blame
                    raise RunAborted(OUT_OF_MEMORY) from error
                error = MediaError("opening it takes more memory than there is")
            expected, why = True, str(error)
        except OSError as error:
            expected, why = expected or path.is_symlink() or not name.suffix, f"cannot be read ({error.strerror or error})"
        except FATAL:
            raise
        except Exception as error:  # decoders raise anything on a damaged header
            expected, why = True, f"cannot be opened: it is damaged or in an unknown format ({format_error(error)})"
        return Broken(path, name, why) if expected else Skipped(path, name)

    def _opened(self, path: Path, name: PurePosixPath) -> Unit | None:
        """The unit of a picture or a film; None for other files. Raises MediaError, OSError, and whatever decoders raise."""
        with open_input(path) as file:
            head = file.read(HEAD)
        if is_frame_format(head):
            raise MediaError(ALONE)
        if sniff(head):
            return Unit(open_image(path, name, max_pixels=self.max_pixels))
        if video_file.sniff(path):
            film = open_video(path, name, max_pixels=self.max_pixels, picture=self.picture, scans=self._scans)
            return Unit(film if self.deinterlace == "off" else of_one_moment(film), stop=self.frames)
        return None

    def receive(self, unit: Unit) -> None:
        """Remember where a file is, as `units` does."""
        self._places.setdefault(unit.path, os.path.realpath(unit.path))

    def read(self, unit: Unit, context: int) -> Iterator[Frame]:
        """The single frame of a picture, or the frames of a film in presentation order."""
        self._check_place(unit.path)
        if isinstance(unit.media, VideoFile):
            if self._run.first(id(self), "faults", unit.media):  # even if the first segment is already done
                for fault in unit.media.faults:
                    self._run.warn(fault, unit.media, each=True)
            warn = partial(self._run.warn, media=unit.media, each=True)
            if isinstance(unit.media, FrameSequence):
                yield from self._sequence_reader(unit.media).frames(unit, context, warn=warn)
                self._check_place(unit.path)
                return
            yield from read_video(unit, context, warn=warn, onward=self._decoder(unit.media))
        else:
            yield read_image(unit)
        self._check_place(unit.path)

    def sample(self, unit: Unit, indices: Sequence[int]) -> Iterator[Frame]:
        """Some frames of a film, by a decoder of its own; what is wrong with the film is said when it is read."""
        if not isinstance(unit.media, VideoFile):
            yield from super().sample(unit, indices)
            return
        self._check_place(unit.path)
        if isinstance(unit.media, FrameSequence):
            yield from SequenceReader(unit.media, self.workers).sample(unit, indices)
        else:
            yield from sample_video(unit, unit.media, indices)
        self._check_place(unit.path)

    def close(self) -> None:
        """Close the decoders."""
        while self._decoders:
            self._decoders.popitem()[1].close()
        while self._readers:
            self._readers.popitem()[1].close()

    def _decoder(self, film: VideoFile) -> SharedDecoder:
        """The decoder shared by the consecutive segments of a film that this thread reads."""
        self._close_ended()
        decoder = self._decoders.get(get_ident())
        if decoder is None or decoder.film is not film:
            if decoder:
                decoder.close()
            decoder = self._decoders[get_ident()] = SharedDecoder(film, chroma=True)
        return decoder

    def _sequence_reader(self, film: FrameSequence) -> SequenceReader:
        """This thread's reader of a film of numbered frames, which keeps what two consecutive segments share."""
        self._close_ended()
        reader = self._readers.get(get_ident())
        if reader is None or reader.film is not film:
            if reader:
                reader.close()
            reader = self._readers[get_ident()] = SequenceReader(film, self.workers)
        return reader

    def _close_ended(self) -> None:
        """Close what threads have left that have ended, where one process does several pieces of work."""
        running = {thread.ident for thread in running_threads()}
        for ident in self._decoders.keys() - running:
            if decoder := self._decoders.pop(ident, None):
                decoder.close()
        for ident in self._readers.keys() - running:
            if reader := self._readers.pop(ident, None):
                reader.close()

    def _check_place(self, path: Path) -> None:
        """Nothing is read through a link that took a file's or a folder's place after the file was found. Raises MediaError."""
        if path in self._places and os.path.realpath(path) != self._places[path]:
            raise MediaError("it or its folder was replaced by a link during the run; undo that, and run again")
