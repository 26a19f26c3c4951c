"""Makes films that carry captions, cropping and the like, and the same films without them, by byte edits and PyAV alone."""

import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

FRAMES = 12
SIZE = 96, 64
_ATSC = b"\xb5\x00\x31"


def grey_frame(number: int, pix_fmt: str = "yuv420p", alpha: bool = True) -> VideoFrame:
    """A frame of moving stripes with neutral chroma, and an alpha ramp if the format has alpha."""
    width, height = SIZE
    down, across = np.mgrid[:height, :width]
    luma = ((2 * down + 3 * across + 5 * number) % 180 + 30).astype(np.uint8)
    frame = VideoFrame(width, height, pix_fmt)
    planes = [luma, *[np.full((height // 2, width // 2), 128, np.uint8)] * 2]
    planes += [(across * 2 % 256 if alpha else np.full_like(across, 255)).astype(np.uint8)]
    for target, samples in zip(frame.planes, planes, strict=False):
        padded = np.zeros((target.height, target.line_size), np.uint8)
        padded[:, : target.width] = samples
        target.update(padded.tobytes())
    frame.pts = number
    return frame


def coded_film(
    path: Path,
    codec: str = "libx264",
    change: Callable[[int, bytes], bytes] = lambda number, data: data,
    *,
    pix_fmt: str = "yuv420p",
    alpha: bool = True,
    options: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
) -> Path:
    """Write a film of which each coded frame is changed; the same arguments give the same film otherwise."""
    quiet = {"libx265": {"x265-params": "log-level=none:bframes=0", "preset": "ultrafast"}, "libx264": {"bf": "0"}}
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream(codec, rate=25, options={"g": "6", **quiet.get(codec, {}), **(options or {})})
        assert isinstance(stream, VideoStream)
        (stream.width, stream.height), stream.pix_fmt, stream.thread_count = SIZE, pix_fmt, 1
        stream.metadata.update(tags or {})
        coded = [packet for number in range(FRAMES) for packet in stream.encode(grey_frame(number, pix_fmt, alpha))]
        for number, packet in enumerate([*coded, *stream.encode(None)]):
            copy = Packet(change(number, bytes(packet)))
            copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
            copy.duration, copy.is_keyframe = packet.duration, packet.is_keyframe
            output.mux(copy)
    return path


def with_captions(number: int, data: bytes) -> bytes:
    """An H.264 frame with closed captions (ATSC A/53)."""
    pair = bytes(value | (0x80 if value.bit_count() % 2 == 0 else 0) for value in (0x41 + number % 26, 0x42))
    return _with_message(data, b"\x06", _ATSC + b"GA94\x03\x41\xff\xfc" + pair + b"\xff")


def with_active_format(number: int, data: bytes) -> bytes:
    """An H.264 frame with an active format description."""
    return _with_message(data, b"\x06", _ATSC + b"DTG1\x41\xfa")


def with_hdr10_plus(number: int, data: bytes) -> bytes:
    """An H.265 frame with HDR10+ metadata (SMPTE ST 2094-40) of one window."""
    fields = [(1, 8), (1, 2), (400, 27), (0, 1), *[(1000 + number, 17)] * 3, (500, 17), (0, 4), (0, 10), (0, 1), (0, 1), (0, 1)]
    bits = "".join(f"{value:0{width}b}" for value, width in fields)
    bits += "0" * (-len(bits) % 8)
    return _with_message(data, b"\x4e\x01", b"\xb5\x00\x3c\x00\x01\x04" + int(bits, 2).to_bytes(len(bits) // 8, "big"))


def _with_message(data: bytes, header: bytes, payload: bytes) -> bytes:
    """A coded frame, in NAL units after start codes, with an SEI message of registered user data before its picture."""
    slices = [at for at in _starts(data) if (data[at + 3] & 31 in (1, 5) if len(header) == 1 else data[at + 3] >> 1 & 63 < 32)]
    body, zeros = bytearray(), 0
    for byte in bytes([4, len(payload)]) + payload + b"\x80":
        if zeros >= 2 and byte <= 3:
            body.append(3)
            zeros = 0
        body.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    at = slices[0]
    return data[:at] + b"\0\0\1" + header + bytes(body) + data[at:]


def _starts(data: bytes) -> list[int]:
    return [at for at in range(len(data) - 3) if data[at : at + 3] == b"\0\0\1"]


def with_pixel_crop(path: Path, target: Path) -> Path:
    """A Matroska film of which 8 rows at the top and bottom are not to be shown (RFC 9559, 5.1.4.1.28)."""
    data = bytearray(path.read_bytes())
    crop = b"\x54\xbb\x81\x08\x54\xaa\x81\x08"
    chain: list[tuple[int, int, int]] = []

    def number(at: int) -> tuple[int, int]:
        width = 9 - data[at].bit_length()
        return int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1, width

    def find(at: int, end: int, wanted: list[bytes]) -> None:
        while at < end:
            name = bytes(data[at : at + 9 - data[at].bit_length()])
            size, width = number(at + len(name))
            if name == wanted[0]:
                chain.append((at + len(name), width, size))
                if wanted[1:]:
                    find(at + len(name) + width, at + len(name) + width + size, wanted[1:])
                return
            at += len(name) + width + size

    find(0, len(data), [b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"])
    at, width, size = chain[-1]
    data[at + width + size : at + width + size] = crop
    for at, width, size in reversed(chain):
        if size != (1 << 7 * width) - 1:
            data[at : at + width] = (size + len(crop) | 1 << 7 * width).to_bytes(width, "big")
    target.write_bytes(data)
    return target


def with_clean_aperture(path: Path, target: Path) -> Path:
    """A QuickTime film of which 8 columns at each side are not to be shown; its index must follow its frames."""
    data = bytearray(path.read_bytes())
    box = struct.pack(">I4s8I", 40, b"clap", SIZE[0] - 16, 1, SIZE[1], 1, 0, 1, 0, 1)
    at = data.index(b"avc1", data.index(b"stsd")) - 4
    end = at + int.from_bytes(data[at : at + 4], "big")
    places = [at]
    for name in (b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        places.append(data.rindex(name, 0, places[-1]) - 4)
    data[end:end] = box
    for place in places:
        data[place : place + 4] = (int.from_bytes(data[place : place + 4], "big") + len(box)).to_bytes(4, "big")
    target.write_bytes(data)
    return target


def with_unlisted_stream(path: Path, target: Path) -> Path:
    """A transport stream, with a packet of a stream (packet identifier 0x123) at its end."""
    target.write_bytes(path.read_bytes() + b"\x47\x41\x23\x10\0\0\1\xbd\0\0\x80\0\0".ljust(188, b"\0"))
    return target
