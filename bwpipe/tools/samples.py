"""Black-and-white samples for trying bwpipe, from scikit-image's photographs."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from bwpipe.core.extras import install_command
from bwpipe.core.inputs import expand_user
from bwpipe.errors import UsageError

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle_left")
FILM = "pan.mp4"
RATE = 24
SECONDS = 5
SOUND_RATE = 48000
SIZE = (320, 240)
"""Width and height of the film, in pixels."""


def photographs() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The names and images, (H, W, 3) uint8 RGB, of scikit-image's photographs. Raises UsageError."""
    try:
        from skimage import data, io
    except ImportError:
        raise UsageError(f"the samples are scikit-image's photographs; run: {install_command('samples')}") from None
    for name in PHOTOGRAPHS:
        path = next(Path(data.__file__).parent.glob(f"{name}.*"))
        yield name, np.asarray(io.imread(path))[..., :3]


def write_samples(folder: Path) -> list[Path]:
    """Write the photographs in grey, as PNG, JPEG and 16-bit TIFF, and a five-second film with sound that pans across them.

    Existing files are overwritten. Raises UsageError.
    """
    greys = {name: np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8) for name, image in photographs()}
    written = []
    try:
        folder = expand_user(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for number, (name, grey) in enumerate(greys.items()):
            suffix = (".jpg", ".png", ".tif")[number % 3]
            plane = grey.astype(np.uint16) * 257 if suffix == ".tif" else grey
            path = folder / f"{name}{suffix}"
            path.write_bytes(cv2.imencode(suffix, plane)[1].tobytes())
            written.append(path)
        _write_film(folder / FILM, list(greys.values()))
    except OSError as error:
        raise UsageError(f"{folder}: can't write the samples ({error.strerror}); choose another folder") from error
    return [*written, folder / FILM]


def _write_film(path: Path, images: list[NDArray[np.uint8]]) -> None:
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=RATE, options={"crf": "18"})
        video.width, video.height = SIZE
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=SOUND_RATE, layout="stereo")
        for index, plane in enumerate(_pan(images)):
            frame = av.VideoFrame.from_ndarray(plane, format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(video.encode(frame))
            container.mux(sound.encode(_tone(index)))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))


def _pan(images: list[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """The film's frames, (H, W) uint8: a window that pans across each image from left to right."""
    width, height = SIZE
    shown = RATE * SECONDS // len(images)
    for image in images:
        scale = max(1.4 * width / image.shape[1], height / image.shape[0])
        large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top = (large.shape[0] - height) // 2
        for step in range(shown):
            left = (large.shape[1] - width) * step // shown
            yield np.ascontiguousarray(large[top : top + height, left : left + width])


def _tone(index: int) -> av.AudioFrame:
    """1/24 s of a quiet tone that moves from the left to the right channel during the film."""
    count = SOUND_RATE // RATE
    at = np.arange(index * count, (index + 1) * count)
    tone = 0.1 * np.sin(2 * np.pi * 330 * at / SOUND_RATE)
    right = at / (SOUND_RATE * SECONDS)
    planes = np.stack([tone * (1 - right), tone * right]).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, int(at[0]), Fraction(1, SOUND_RATE)
    return frame
