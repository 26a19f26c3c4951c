"""A film whose frames are numbered files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import ClassVar, Literal, TypeAlias

import av
import av.error
from av.container import InputContainer

from bwpipe.core.fingerprint import FileStamp, file_stamp
from bwpipe.errors import MediaError
from bwpipe.image.file import ImageFile
from bwpipe.sequence.numbering import FrameFiles
from bwpipe.sequence.transfer import Transfer
from bwpipe.video.file import VideoFile

FrameFormat: TypeAlias = Literal["image", "dpx", "exr"]
"""What reads a frame: the reader of pictures, or FFmpeg's decoder of DPX or OpenEXR."""
CONTAINER = "image2"
"""`VideoFile.container` of numbered frames: FFmpeg's name for them."""
SOUND_CONTAINERS = "wav,w64,aiff,flac,mp3,aac,ogg,mov,matroska,caf"
"""The demuxers that may read a sound, by FFmpeg name: none of them opens other files."""
NO_STREAM = -1
"""`VideoFile.stream_index` of a film whose frames are in no container."""
_SILENCE = b"RIFF" + pack("<I", 36) + b"WAVEfmt " + pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + pack("<I", 0)
"""A sound without samples: what is opened for the other streams of a film that has none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameSequence(VideoFile):
    """Numbered files that are the frames of one film. Created by `open_sequence`.

    Its time base is the duration of a frame, and a frame's timestamp is its number less the first one, so that the frame before
    a gap is shown until the gap's end.

    Attributes:
        files: The files.
        form: What reads them.
        first: The first frame as a picture of its own, for what pictures have; None for DPX and OpenEXR.
        transfer: What the codes mean.
        sound: A file whose sound belongs to it.
        max_pixels: The most pixels of a frame.
        stop: The first frame that is not wanted; None if all are.
        hold: Whether a frame that can't be read is left out, so that the one before it is shown for longer.
    """

    has_frame_files: ClassVar[bool] = True

    files: FrameFiles
    form: FrameFormat
    first: ImageFile | None
    transfer: Transfer
    sound: Path | None
    max_pixels: int
    stop: int | None
    hold: bool

    @property
    def pattern(self) -> str:
        """The pattern of its files, as `read.path` takes it."""
        return str(self.files.folder / self.files.pattern)

    def open(self) -> InputContainer:
        """Open the file of its sound, or in its place a sound without samples. Raises MediaError."""
        if self.sound is None:
            return av.open(BytesIO(_SILENCE), "r", format="wav")
        return open_sound(self.sound)

    def stamp(self, start: int = 0, stop: int | None = None, *, again: bool = True) -> FileStamp | None:
        """The stamp of some frames: of their names, sizes and times. That of all wanted frames covers the sound too."""
        found = self.files.stamp(start, stop, again=again)
        whole = start == 0 and (stop is None or stop >= min(len(self.files), self.stop or len(self.files)))
        if found is None or self.sound is None or not whole:
            return found
        sound = file_stamp(self.sound)
        if sound is None:
            return None
        both = (found.mtime_ns + sound.mtime_ns) % 2**63
        return found._replace(size=found.size + sound.size, mtime_ns=both)

    def digest(self, stamp: FileStamp, tick: Callable[[], None] = lambda: None) -> str:
        """The stamp as text: the names, sizes and times of frames stand for their bytes, which are too many to hash again."""
        return f"{stamp.size:x}-{stamp.mtime_ns:016x}"

    def __str__(self) -> str:
        """A description for messages."""
        return f"a film of {len(self.files)} numbered frames of {self.width}x{self.height} pixels"


def open_sound(path: Path) -> InputContainer:
    """Open a file with sound, and nothing else: only self-contained formats, only the `file:` protocol. Raises MediaError."""
    options = {"protocol_whitelist": "file", "format_whitelist": SOUND_CONTAINERS}
    try:
        return av.open(f"file:{path}", "r", options=options, metadata_errors="surrogateescape")
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"its sound {path.name} can't be read ({error.strerror}); give `sound` a WAV file") from error


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Name a frame's file in errors about it."""
    try:
        yield
    except MediaError as error:
        raise MediaError(f"{name}: {error}") from error
    except OSError as error:
        raise MediaError(f"{name}: can't be read ({error.strerror or error})") from error
