"""The `read` stage."""

import mimetypes
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from pydantic import PrivateAttr

from bwpipe import Broken, Count, Frame, MediaError, NoEffect, RunContext, Source, Unit, stage
from bwpipe.core.inputs import find_files, is_later_part, leads_outside
from bwpipe.core.stage import FilmsOnly, ScanCache
from bwpipe.image.file import HEAD, sniff
from bwpipe.image.open import open_image
from bwpipe.image.read import read_image
from bwpipe.video import file as video_file
from bwpipe.video.decoder import SharedDecoder, read_video
from bwpipe.video.file import VideoFile
from bwpipe.video.interlacing import of_one_moment
from bwpipe.video.probe import open_video


@stage("read")
class Read(Source):
    """Reads pictures and films: a file, a folder with its subfolders, or a pattern. Recognises files by content, not name.

    A DVD's title that is cut into `VTS_01_1.VOB`, `VTS_01_2.VOB` and so on is one film, under the name of its first part.
    """

    OTHERS: ClassVar[frozenset[str]] = frozenset(
        {".avif", ".arw", ".cr2", ".dng", ".heic", ".heif", ".jxl", ".mts", ".mxf", ".nef", ".vob"}
    )
    """Extensions of images and videos that `mimetypes` does not know."""

    path: NoEffect[str]
    """A file, a folder, or a pattern such as `scans/**/*.tif`, relative to the current folder."""
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
    _shared_decoder: SharedDecoder | None = PrivateAttr(default=None)
    _warned: set[VideoFile] = PrivateAttr(default_factory=set)

    def setup(self, run: RunContext) -> None:
        """Keep the run, for warnings."""
        self._run = run

    def remember(self, scans: ScanCache) -> None:
        """Keep the cache of video indexes."""
        self._scans = scans

    def units(self) -> Iterator[Unit | Broken]:
        """Every picture and film; files that only have the name of one are reported as broken, other files are ignored."""
        is_file = Path(self.path).is_file()
        for path, name in find_files(self.path):
            if not is_file and is_later_part(path):
                continue
            if path.is_symlink() and not is_file and (path.is_dir() or leads_outside(path, name)):
                yield Broken(path, name, "it is a link out of the folder or to a folder; read its target separately")
                continue
            try:
                with path.open("rb") as file:
                    head = file.read(HEAD)
                if sniff(head):
                    yield Unit(open_image(path, name, max_pixels=self.max_pixels))
                elif video_file.sniff(path):
                    film = open_video(path, name, max_pixels=self.max_pixels, picture=self.picture, scans=self._scans)
                    yield Unit(film if self.deinterlace == "off" else of_one_moment(film), stop=self.frames)
                elif is_file or self._looks_like_media(name):
                    yield Broken(path, name, "it is not a picture or film in a supported format; convert it first")
            except MediaError as error:
                yield Broken(path, name, str(error))
            except OSError as error:
                if is_file or path.is_dir() or self._looks_like_media(name):
                    yield Broken(path, name, f"cannot be read ({error.strerror})")

    def read(self, unit: Unit, context: int) -> Iterator[Frame]:
        """The single frame of a picture, or the frames of a film in presentation order."""
        if isinstance(unit.media, VideoFile):
            if unit.media not in self._warned:  # even if the first segment is already done
                self._warned.add(unit.media)
                for fault in unit.media.faults:
                    self._run.warn(fault, unit.media, each=True)
            warn = partial(self._run.warn, media=unit.media, each=True)
            yield from read_video(unit, context, warn=warn, onward=self._decoder(unit.media), chroma=True)
        else:
            yield read_image(unit)

    def close(self) -> None:
        """Close the decoder."""
        if self._shared_decoder:
            self._shared_decoder.close()

    def _decoder(self, film: VideoFile) -> SharedDecoder:
        """The decoder shared by a film's consecutive segments."""
        if self._shared_decoder is None or self._shared_decoder.film is not film:
            self.close()
            self._shared_decoder = SharedDecoder(film)
        return self._shared_decoder

    def _looks_like_media(self, name: PurePosixPath) -> bool:
        kind, _ = mimetypes.guess_type(name.name)
        return (kind or "").startswith(("image/", "video/")) or name.suffix.lower() in self.OTHERS
