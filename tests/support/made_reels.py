"""Numbered frames of a made reel: a textured scene that pans, with grain, in each format that scanners write."""

import struct
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from bwpipe.sequence import exr

Kind = Literal["png8", "png16", "tiff16", "jpeg", "dpx", "exr"]
SUFFIXES: dict[str, str] = {
    "png8": ".png",
    "png16": ".png",
    "tiff16": ".tif",
    "jpeg": ".jpg",
    "dpx": ".dpx",
    "exr": ".exr",
}


def scene(count: int, height: int = 64, width: int = 96, seed: int = 0, step: int = 2) -> NDArray[np.float32]:
    """(count, height, width) in 0.05..0.95: a smooth texture that moves by `step` pixels a frame, with grain."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((6, 8 + step * count // 12)).astype(np.float32)
    texture = cv2.resize(coarse, (width + step * count, height), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([texture[:, step * i : step * i + width] for i in range(count)])
    return np.clip(frames + rng.normal(0, 0.01, frames.shape).astype(np.float32), 0.05, 0.95)


def dpx_file(
    rgb: NDArray[np.uint16],
    *,
    transfer: int = 3,
    time_code: int | None = None,
    creator: bytes = b"bwpipe tests",
    order: str = ">",
) -> bytes:
    """A DPX file of 10 bits with codes (H, W, 3)."""
    height, width = rgb.shape[:2]
    head = bytearray(b"\xff" * 2048)
    struct.pack_into(f"{order}4sI8sI", head, 0, b"SDPX" if order == ">" else b"XPDS", 2048, b"V2.0", 2048 + 4 * width * height)
    head[160:260] = creator.ljust(100, b"\0")
    struct.pack_into(f"{order}HHII", head, 768, 0, 1, width, height)
    struct.pack_into(f"{order}I", head, 780, 0)
    head[800:804] = bytes([50, transfer, transfer, 10])
    struct.pack_into(f"{order}HHIII", head, 804, 1, 0, 2048, 0, 0)
    struct.pack_into(f"{order}II", head, 1628, 1, 1)
    head[1664:1680] = b"0144123456001234"
    if time_code is not None:
        struct.pack_into(f"{order}I", head, 1920, time_code)
    codes = rgb.astype(np.uint32)
    return bytes(head) + (codes[..., 0] << 22 | codes[..., 1] << 12 | codes[..., 2] << 2).astype(f"{order}u4").tobytes()


def write_reel(
    folder: Path,
    kind: Kind,
    frames: NDArray[np.float32],
    *,
    prefix: str = "reel1_",
    first: int = 1,
    digits: int = 6,
    skip: tuple[int, ...] = (),
) -> list[Path]:
    """Write frames (count, H, W) in 0..1 as numbered files, without the numbers in `skip`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, frame in enumerate(frames, first):
        if number in skip:
            continue
        path = folder / f"{prefix}{number:0{digits}d}{SUFFIXES[kind]}"
        paths.append(path)
        write_frame(path, kind, frame, number)
    return paths


def write_frame(path: Path, kind: Kind, frame: NDArray[np.float32], number: int = 0) -> None:
    """Write one frame (H, W) in 0..1; a DPX file has logarithmic codes and a time code, an OpenEXR file light and an owner."""
    if kind in ("png8", "jpeg"):
        options: dict[str, Any] = {"quality": 95} if kind == "jpeg" else {}
        Image.fromarray(np.rint(frame * 255).astype(np.uint8)).save(path, **options)
    elif kind == "png16":
        cv2.imwrite(str(path), np.rint(frame * 65535).astype(np.uint16))
    elif kind == "tiff16":
        tifffile.imwrite(
            path, np.rint(frame * 65535).astype(np.uint16), software="scanner", description=f"frame {number}", metadata=None
        )
    elif kind == "dpx":
        codes = np.rint(95 + frame * 590).astype(np.uint16)
        path.write_bytes(dpx_file(np.repeat(codes[..., None], 3, axis=-1), time_code=0x01020000 | number % 24))
    else:
        light = (frame**2.2).astype(np.float16)
        source = exr.encode(dict.fromkeys("RGB", light), b"")
        owner = exr.Attribute(b"string", b"the archive")
        path.write_bytes(with_attribute(source, "owner", owner))


def with_attribute(source: bytes, name: str, attribute: exr.Attribute) -> bytes:
    """An OpenEXR file with one more attribute: its table of offsets is moved with its chunks."""
    entry = name.encode() + b"\0" + attribute.kind + b"\0" + struct.pack("<i", len(attribute.value)) + attribute.value
    header = exr.read_header(source)
    end = source.index(b"\0", _end_of_attributes(source))
    count = -(-header.height // 16)
    table = np.frombuffer(source, "<u8", count, end + 1) + len(entry)
    return source[:end] + entry + b"\0" + table.astype("<u8").tobytes() + source[end + 1 + 8 * count :]


def _end_of_attributes(source: bytes) -> int:
    at = 8
    while source[at]:
        at = source.index(0, source.index(0, at) + 1) + 1
        at += 4 + struct.unpack_from("<i", source, at)[0]
    return at
