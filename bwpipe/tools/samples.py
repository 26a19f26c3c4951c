"""Black-and-white samples to try bwpipe on, made of scikit-image's photographs."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.errors import UsageError

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle_left")
FILM = "pan.mp4"
RATE = 24
SECONDS = 5
SOUND_RATE = 48000
SIZE = (320, 240)
"""Width and height of the film, in pixels."""


def photographs() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The names and pictures, (H, W, 3) uint8 RGB, of those that scikit-image brings along. Raises UsageError."""
    try:
        from skimage import data, io
    except ImportError:
        raise UsageError("the samples are scikit-image's photographs; install it with: pip install 'bwpipe[samples]'") from None
    for name in PHOTOGRAPHS:
        path = next(Path(data.__file__).parent.glob(f"{name}.*"))
        yield name, np.asarray(io.imread(path))[..., :3]


def write_samples(folder: Path) -> list[Path]:
    """Write the photographs in grey, as PNG, JPEG and 16-bit TIFF, and a film of five seconds with sound panned across them.

    Files that are there already are written again. Raises UsageError.
    """
    greys = {name: np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8) for name, picture in photographs()}
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (name, grey) in enumerate(greys.items()):
            suffix = (".jpg", ".png", ".tif")[number % 3]
            plane = grey.astype(np.uint16) * 257 if suffix == ".tif" else grey
            path = folder / f"{name}{suffix}"
            path.write_bytes(cv2.imencode(suffix, plane)[1].tobytes())
            written.append(path)
        _write_film(folder / FILM, list(greys.values()))
    except OSError as error:
        raise UsageError(f"{folder}: can't write the samples ({error.strerror}); give another folder") from error
    return [*written, folder / FILM]


def _write_film(path: Path, pictures: list[NDArray[np.uint8]]) -> None:
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        picture = container.add_stream("libx264", rate=RATE, options={"crf": "18"})
        picture.width, picture.height = SIZE
        picture.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=SOUND_RATE, layout="stereo")
        for index, plane in enumerate(_pan(pictures)):
            frame = av.VideoFrame.from_ndarray(plane, format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(picture.encode(frame))
            container.mux(sound.encode(_tone(index)))
        container.mux(picture.encode(None))
        container.mux(sound.encode(None))


def _pan(pictures: list[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """The film's frames, (H, W) uint8: a window that glides over each picture from left to right."""
    width, height = SIZE
    shown = RATE * SECONDS // len(pictures)
    for picture in pictures:
        scale = max(1.4 * width / picture.shape[1], height / picture.shape[0])
        large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top = (large.shape[0] - height) // 2
        for step in range(shown):
            left = (large.shape[1] - width) * step // shown
            yield np.ascontiguousarray(large[top : top + height, left : left + width])


def _tone(index: int) -> av.AudioFrame:
    """A quiet tone of 1/24 s that goes from the left to the right ear in the course of the film."""
    count = SOUND_RATE // RATE
    at = np.arange(index * count, (index + 1) * count)
    tone = 0.1 * np.sin(2 * np.pi * 330 * at / SOUND_RATE)
    right = at / (SOUND_RATE * SECONDS)
    planes = np.stack([tone * (1 - right), tone * right]).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, int(at[0]), Fraction(1, SOUND_RATE)
    return frame
