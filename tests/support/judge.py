"""Judges outputs by PyAV, Pillow, tifffile, OpenCV and numpy alone: nothing of bwpipe is imported, no mistake is shared.

Each function returns the differences that it finds, a sentence each.
"""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import tifffile
from av.stream import Disposition
from numpy.typing import NDArray
from PIL import Image

HALF_MS = Fraction(1, 2000)
BT601 = np.array((0.299, 0.587, 0.114))


def judge_film(before: Path, after: Path) -> list[str]:
    """Compare a film and its lossless output: every coded frame, its time and luma, and sound."""
    found = []
    was, now = list(_frames(before)), list(_frames(after))
    if before.suffix == ".avi":  # it states no times, only the order of decoding
        was = [(None, digest) for _, digest in was]
    if len(was) != len(now):
        found.append(f"{len(now)} frames instead of {len(was)}")
    for number, (one, other) in enumerate(zip_longest(was, now)):
        if one is None or other is None:
            break
        if one[0] is not None and other[0] is not None and abs(one[0] - other[0]) > HALF_MS:
            found.append(f"frame {number} at {float(other[0])} s instead of {float(one[0])} s")
            break
        if one[1] is not None and one[1] != other[1]:
            found.append(f"the luma of frame {number} differs")
            break
    lost = _sound(before) - _sound(after)
    if lost:
        found.append(f"{sum(lost.values())} packets of sound are lost")
    return found


def _frames(path: Path) -> Iterator[tuple[Fraction | None, str | None]]:
    """Time and digest of the luma of each frame; None as digest for RGB, whose luma depends on the conversion."""
    with av.open(str(path)) as container:
        streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
        chosen = next((each for each in streams if each.disposition & Disposition.default), streams[0])
        for frame in container.decode(chosen):
            time = None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
            yield time, None if frame.format.is_rgb else _digest(frame)


def _digest(frame: Any) -> str:
    """A digest of the luma codes, whatever the layout of samples."""
    component = frame.format.components[0]
    if not frame.format.is_planar and len(frame.format.components) > 1:
        frame = frame.reformat(format="yuv422p")  # of uyvy422 and the like: samples are only moved
    plane = frame.planes[0]
    kind = np.dtype(np.uint8 if component.bits <= 8 else ">u2" if frame.format.name.endswith("be") else "<u2")
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    samples: NDArray[Any] = np.ascontiguousarray(rows[:, : plane.width * kind.itemsize]).view(kind)
    return sha256(samples.astype(np.uint16).tobytes()).hexdigest()


def _sound(path: Path) -> Counter[bytes]:
    """Digests of the packets of sound, without the frame headers of transport streams; PCM as a whole, by its samples."""
    found: Counter[bytes] = Counter()
    with av.open(str(path)) as container:
        whole: dict[int, Any] = {}
        for packet in container.demux(container.streams.audio) if container.streams.audio else ():
            data = bytes(packet)
            if packet.stream.codec_context.name.startswith("pcm"):
                whole.setdefault(packet.stream.index, sha256()).update(data)
            elif data:
                adts = packet.stream.codec_context.name == "aac" and data[0] == 0xFF and data[1] & 0xF6 == 0xF0
                found[sha256(data[7:] if adts else data).digest()] += 1
        found.update(each.digest() for each in whole.values())
    return found


def judge_image(before: Path, after: Path) -> list[str]:
    """Compare a grey picture and its output: size, orientation, ICC profile, resolution, and luma by the formula of BT.601."""
    found = []
    with Image.open(before) as was, Image.open(after) as now:
        if was.size != now.size:
            return [f"its size is {now.size} instead of {was.size}"]
        if was.getexif().get(274, 1) != now.getexif().get(274, 1):
            found.append("its orientation differs")
        if (was.info.get("icc_profile") or b"")[16:20] == b"RGB " and was.info["icc_profile"] != now.info.get("icc_profile"):
            found.append("its ICC profile differs")
        if getattr(was, "n_frames", 1) != getattr(now, "n_frames", 1):
            found.append("it has another number of images")
    luma = [_luma(path) for path in (before, after)]
    if luma[0].shape == luma[1].shape:
        off = float(np.abs(luma[0] - luma[1]).max())
        grey = _is_grey(before)
        exact = _format(before) == _format(after) == "JPEG" and was.mode != "CMYK"  # the same coefficients
        if off > (0 if exact else 2.6 if _format(after) == "JPEG" else 0.51 if grey else 1.01):  # luma of colour is rounded
            found.append(f"its luma differs by {off:.2f}")
    return found


def _format(path: Path) -> str | None:
    with Image.open(path) as image:
        return image.format


def _is_grey(path: Path) -> bool:
    with Image.open(path) as image:
        return image.mode in ("1", "L", "LA", "I;16", "I;16B", "I")


def _luma(path: Path) -> NDArray[np.float64]:
    """Luma (H, W) in code values: of a JPEG what it stores, of others by the formula."""
    deep: Any = _sixteen_bits(path)
    if deep is not None:
        return _weighted(deep)
    with Image.open(path) as image:
        if image.format == "JPEG" and image.mode != "CMYK":
            image.draft("YCbCr", image.size)
            samples = np.asarray(image)
            return _weighted(samples if samples.ndim == 2 else samples[..., 0])
        plain = image if image.mode in ("L", "LA", "RGB", "RGBA") else image.convert("RGB")
        return _weighted(np.asarray(plain))


def _sixteen_bits(path: Path) -> Any:
    """The samples of a 16-bit image, which Pillow would reduce to 8 bits; None for another one."""
    if path.suffix in (".tif", ".tiff"):
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            if page.dtype != np.uint16:
                return None
            if page.compression == 5:  # LZW, which tifffile reads with a further package only
                return _by_opencv(path)
            samples = page.asarray()
            samples = np.moveaxis(samples, 0, -1) if page.planarconfig == 2 and samples.ndim == 3 else samples
            return 65535 - samples if page.photometric == 0 else samples
    if path.suffix == ".pgm":
        return _deep_pgm(path)
    return _by_opencv(path) if path.suffix in (".png", ".ppm", ".jp2") else None


def _deep_pgm(path: Path) -> Any:
    """The samples of a PGM file with more than 8 bits, whose white is any number."""
    with Image.open(path) as image:
        if image.mode == "L":
            return None
        width, height = image.size
    data = path.read_bytes()
    samples = np.frombuffer(data[-2 * width * height :], ">u2").reshape(height, width)
    return samples * (65535 / int(data[: -2 * width * height].split()[-1]))


def _by_opencv(path: Path) -> Any:
    samples = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if samples is None or samples.dtype != np.uint16:
        return None
    return samples if samples.ndim == 2 else samples[..., 2::-1]


def _weighted(samples: NDArray[Any]) -> NDArray[np.float64]:
    if samples.ndim == 2 or samples.shape[2] < 3:
        return (samples if samples.ndim == 2 else samples[..., 0]).astype(np.float64)
    weighted: NDArray[np.float64] = samples[..., :3].astype(np.float64) @ BT601
    return weighted
