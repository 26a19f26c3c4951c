"""The `read` stage."""

import mimetypes
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from pydantic import PrivateAttr

from bwpipe import Broken, Count, Frame, MediaError, NoEffect, RunContext, Source, Unit, stage
from bwpipe.core.inputs import find_files, leads_outside
from bwpipe.core.stage import ScanCache
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
    """Reads pictures and films: a file, a folder with its subfolders, or a pattern. Content tells them apart, not names."""

    OTHERS: ClassVar[frozenset[str]] = frozenset(
        {".avif", ".arw", ".cr2", ".dng", ".heic", ".heif", ".jxl", ".mts", ".mxf", ".nef", ".vob"}
    )
    """Endings of pictures and films that `mimetypes` does not know."""

    path: NoEffect[str]
    """A file, a folder, or a pattern such as `scans/**/*.tif`; from the current folder."""
    frames: Count | None = None
    """Read this many frames of each film only, for a trial."""
    picture: Count | None = None
    """Which picture of a film with several is coloured, counted from 1; the others are copied. By default it is the first of
    those that are marked as default, if any is. To colour another one too, run a graph with this option over the output."""
    deinterlace: Literal["off", "bwdif"] = "off"
    """What becomes of films whose frames have lines of two moments: `off` keeps them so, and marked so; `bwdif` makes each
    frame one of a single moment, by FFmpeg's filter, which changes its luma. Networks are shown one moment in any case."""
    max_pixels: NoEffect[Count] = 250_000_000
    """Pictures and films with more pixels than this are refused by their header: a small file can hold a huge picture."""
    workers: NoEffect[Count] = 2
    """How many pictures are read at a time."""

    _run: RunContext = PrivateAttr()
    _scans: ScanCache | None = PrivateAttr(default=None)
    _onward: SharedDecoder | None = PrivateAttr(default=None)
    _told: set[VideoFile] = PrivateAttr(default_factory=set)

    def setup(self, run: RunContext) -> None:
        """Remember whom to tell of losses."""
        self._run = run

    def remember(self, scans: ScanCache) -> None:
        """Where the index of a film is kept."""
        self._scans = scans

    def units(self) -> Iterator[Unit | Broken]:
        """Every picture and film; what only has the name of one is broken, and other files are none of our business."""
        alone = Path(self.path).is_file()
        for path, name in find_files(self.path):
            if path.is_symlink() and not alone and (path.is_dir() or leads_outside(path, name)):
                yield Broken(path, name, "it is a link out of the folder or to a folder; read what it leads to by itself")
                continue
            try:
                with path.open("rb") as file:
                    head = file.read(HEAD)
                if sniff(head):
                    yield Unit(open_image(path, name, max_pixels=self.max_pixels))
                elif video_file.sniff(path):
                    film = open_video(path, name, max_pixels=self.max_pixels, picture=self.picture, scans=self._scans)
                    yield Unit(film if self.deinterlace == "off" else of_one_moment(film), stop=self.frames)
                elif alone or self._looks_like_media(name):
                    yield Broken(path, name, "it is no picture or film of a kind that can be read; convert it first")
            except MediaError as error:
                yield Broken(path, name, str(error))
            except OSError as error:
                if alone or path.is_dir() or self._looks_like_media(name):
                    yield Broken(path, name, f"it can't be read ({error.strerror})")

    def read(self, unit: Unit, context: int) -> Iterator[Frame]:
        """The one frame of a picture, or the frames of a film in the order they are shown."""
        if isinstance(unit.media, VideoFile):
            if unit.media not in self._told:  # also where the first segment is done already
                self._told.add(unit.media)
                for fault in unit.media.faults:
                    self._run.warn(fault, unit.media, each=True)
            warn = partial(self._run.warn, media=unit.media, each=True)
            yield from read_video(unit, context, warn=warn, onward=self._decoder(unit.media))
        else:
            yield read_image(unit)

    def close(self) -> None:
        """Let go of a decoder."""
        if self._onward:
            self._onward.close()

    def _decoder(self, film: VideoFile) -> SharedDecoder:
        """What goes on decoding a film from segment to segment."""
        if self._onward is None or self._onward.film is not film:
            self.close()
            self._onward = SharedDecoder(film)
        return self._onward

    def _looks_like_media(self, name: PurePosixPath) -> bool:
        kind, _ = mimetypes.guess_type(name.name)
        return (kind or "").startswith(("image/", "video/")) or name.suffix.lower() in self.OTHERS
