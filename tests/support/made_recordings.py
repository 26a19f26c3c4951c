"""Makes recordings whose clocks, streams and edit lists are as they come from cameras, receivers, discs and editors."""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

RATE = 25
WIDTH, HEIGHT = 96, 64
_BITS = 8


def numbered_frame(number: int) -> VideoFrame:
    """A frame with a moving disc, whose number can be read from the blocks at its top."""
    return VideoFrame.from_ndarray(_planes(number), format="yuv420p")


@cache
def _planes(number: int) -> NDArray[np.uint8]:
    """Its planes in YUV 4:2:0, one below the other: (3 / 2 HEIGHT, WIDTH)."""
    down, across = np.mgrid[:HEIGHT, :WIDTH]
    luma = 40 + 120 * across // WIDTH
    luma[(across - 20 - 3 * number % 60) ** 2 + (down - 40) ** 2 < 100] = 200
    for bit in range(_BITS):
        luma[:8, 12 * bit : 12 * bit + 12] = 210 if number >> bit & 1 else 40
    return np.vstack([luma, np.full((HEIGHT // 2, WIDTH), 128)]).astype(np.uint8)


def number_of(luma: NDArray[Any]) -> int:
    """The number of a frame, from its luma (H, W)."""
    return sum(int(luma[4, 12 * bit + 6] > 120) << bit for bit in range(_BITS))


def make_recording(
    path: Path,
    frames: range,
    *,
    codec: str = "mpeg2video",
    sounds: Mapping[str, float] | None = None,
    samples: str | None = None,
    later: float = 0,
    rate: int = RATE,
    change: Callable[[int, "Packet[Any]"], None] = lambda number, packet: None,
    options: Mapping[str, str] | None = None,
    muxer: Mapping[str, str] | None = None,
) -> Path:
    """Write a film with a numbered picture and sounds of rising pitch.

    Args:
        path: The file; its ending chooses the format.
        frames: The numbers of its frames.
        codec: FFmpeg's encoder of the picture.
        sounds: Codecs, and when each of them begins, in seconds.
        samples: FFmpeg's name of the format of their samples; the first that each encoder knows by default.
        later: What is added to the clock, in seconds.
        rate: Frames in a second.
        change: Called with the number and packet of each coded frame before it is written.
        options: The encoder's.
        muxer: The container's.
    """
    with av.open(str(path), "w", container_options=dict(muxer or {})) as output:
        video = output.add_stream(codec, rate=rate, options={"g": "12", "bf": "0", **(options or {})})
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt, video.thread_count = WIDTH, HEIGHT, "yuv420p", 1
        if codec == "mpeg2video":
            video.bit_rate = 200_000
        tracks = []
        for sound, begins in (sounds or {}).items():
            track = output.add_stream(sound, rate=48000)
            assert isinstance(track, AudioStream)
            track.layout = "stereo"
            if samples:
                track.codec_context.format = samples
            tracks.append((track, begins))
        output.start_encoding()
        coded: list[Packet[Any]] = []
        for place, number in enumerate(frames):
            frame = numbered_frame(number)
            frame.pts, frame.time_base = place + round(later * rate), Fraction(1, rate)
            coded += video.encode(frame)
        coded += video.encode(None)
        for number, packet in enumerate(coded):
            change(number, packet)
        for track, begins in tracks:
            for piece in _chirp(track, begins, len(frames) / rate):
                piece.pts = (piece.pts or 0) + round(later * 48000)
                coded += track.encode(piece)
            coded += track.encode(None)
        for packet in sorted(coded, key=lambda packet: (packet.dts or 0) * packet.time_base):
            output.mux(packet)
    return path


def _chirp(track: AudioStream, begins: float, ends: float) -> Iterator[AudioFrame]:
    size = track.codec_context.frame_size or 1920
    form = track.codec_context.format.name
    for start in range(round(begins * 48000), round(ends * 48000) - size + 1, size):
        time = np.arange(start, start + size) / 48000
        wave = np.sin(2 * np.pi * (200 + 100 * time) * time) / 4
        if form.startswith("s32"):
            samples = (wave * (2**23 - 1)).astype(np.int32) << 8
        else:
            samples = wave.astype(np.float32) if form.startswith("flt") else (wave * 32767).astype(np.int16)
        planar = form.endswith("p")
        both = np.ascontiguousarray(np.tile(samples, (2, 1)) if planar else np.repeat(samples, 2)[None])
        frame = AudioFrame.from_ndarray(both, format=form, layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        yield frame


def pitches(path: Path, seconds: float) -> list[int]:
    """The pitch of a film's sound at its own timestamps, in Hz, from 0 on, each 0.2 s."""
    with av.open(str(path)) as container:
        decoded = container.decode(audio=0)
        frames = [
            (float((frame.pts or 0) * (frame.time_base or 1)), frame.to_ndarray(), frame.sample_rate) for frame in decoded
        ]
        packed = not container.streams.audio[0].codec_context.format.is_planar
    rate = frames[0][2]
    line = np.zeros(round(seconds * rate))
    for time, samples, _ in frames:
        one = samples[0][::2] if packed else samples[0]
        start = round(time * rate)
        one, start = one[max(-start, 0) :], max(start, 0)
        piece = one[: max(len(line) - start, 0)]
        line[start : start + len(piece)] = piece
    window = rate // 5
    spectra = (np.abs(np.fft.rfft(piece * np.hanning(window), 1 << 16)) for piece in line.reshape(-1, window))
    return [round(float(spectrum.argmax()) * rate / (1 << 16)) for spectrum in spectra]


def _boxes(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int, bytes]]:
    while start + 8 <= stop:
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        yield start, size, kind
        start += size


def _find(data: bytes, *kinds: bytes, start: int = 0, stop: int | None = None) -> tuple[int, int]:
    for at, size, kind in _boxes(data, start, len(data) if stop is None else stop):
        if kind == kinds[0]:
            return (at, size) if len(kinds) == 1 else _find(data, *kinds[1:], start=at + 8, stop=at + size)
    raise ValueError(f"no box {kinds[0]!r}")


def with_edits(path: Path, target: Path, edits: Sequence[tuple[float, float]]) -> Path:
    """A copy of an MP4 or QuickTime file whose edit lists show pieces of it: (start, length) in seconds."""
    data = path.read_bytes()
    moov, size = _find(data, b"moov")
    header, _ = _find(data, b"moov", b"mvhd")
    scale = struct.unpack(">I", data[header + 20 : header + 24])[0]
    length = struct.pack(">I", sum(round(piece * scale) for _, piece in edits))
    body = b""
    for at, extent, kind in _boxes(data, moov + 8, moov + size):
        box = data[at : at + extent]
        if kind == b"mvhd":
            box = box[:24] + length + box[28:]
        if kind == b"trak":
            media, _ = _find(box, b"trak", b"mdia", b"mdhd")
            ticks = struct.unpack(">I", box[media + 20 : media + 24])[0]
            entries = b"".join(struct.pack(">IiHH", round(piece * scale), round(start * ticks), 1, 0) for start, piece in edits)
            entries = struct.pack(">II", 0, len(edits)) + entries
            lists = struct.pack(">I4sI4s", 16 + len(entries), b"edts", 8 + len(entries), b"elst") + entries
            inner = [(kind, box[at : at + size]) for at, size, kind in _boxes(box, 8, len(box)) if kind != b"edts"]
            content = b"".join(part[:28] + length + part[32:] + lists if kind == b"tkhd" else part for kind, part in inner)
            box = struct.pack(">I4s", 8 + len(content), b"trak") + content
        body += box
    if moov + size != len(data):
        raise ValueError("the header must be at the end")
    target.write_bytes(data[:moov] + struct.pack(">I4s", 8 + len(body), b"moov") + body)
    return target


def subtitle(width: int = 48, height: int = 10) -> bytes:
    """A DVD subtitle: a filled rectangle, with its commands to show and to hide it."""
    line = b"\x00\x01"  # colour 1 to the end of the line
    top, bottom = line * ((height + 1) // 2), line * (height // 2)
    commands = 4 + len(top) + len(bottom)
    right, last = width - 1, height - 1
    place = bytes([0, right >> 8, right & 255, 0, last >> 8, last & 255])
    first = b"\x01\x03\x32\x10\x04\xff\xf0\x05" + place + b"\x06" + struct.pack(">HH", 4, 4 + len(top)) + b"\xff"
    second = commands + 4 + len(first)
    control = struct.pack(">HH", 0, second) + first + struct.pack(">HH", 150, second) + b"\x02\xff"
    return struct.pack(">HH", commands + len(control), commands) + top + bottom + control


def stream_packet(stream: int, seconds: float, data: bytes, substream: int | None = None) -> bytes:
    """A packet of a program stream (ISO/IEC 13818-1, 2.4.3.6)."""
    ticks = round(seconds * 90000)
    stamp = bytes([0x21 | ticks >> 29 & 14, ticks >> 22 & 255, ticks >> 14 & 254 | 1, ticks >> 7 & 255, ticks << 1 & 254 | 1])
    content = b"\x81\x80\x05" + stamp + (b"" if substream is None else bytes([substream])) + data
    return b"\0\0\1" + bytes([stream]) + struct.pack(">H", len(content)) + content


def with_packets(path: Path, target: Path, packets: Sequence[tuple[float, bytes]]) -> Path:
    """A copy of a program stream of 2048-byte packs with more packets, each from when the clock has come so far."""
    data = path.read_bytes()
    content = bytearray()
    pending = sorted(packets)
    for at in range(0, len(data), 2048):
        one, two, three, four, five = data[at + 4 : at + 9]
        clock = (
            (one >> 3 & 7) << 30 | (one & 3) << 28 | two << 20 | (three >> 3) << 15 | (three & 3) << 13 | four << 5 | five >> 3
        )
        while pending and pending[0][0] * 90000 <= clock:
            content += data[at : at + 14 + (data[at + 13] & 7)] + pending.pop(0)[1]
        content += data[at : at + 2048]
    target.write_bytes(bytes(content))
    return target


def with_late_sound_in_flv(film: Path, sound: Path, target: Path, seconds: float) -> Path:
    """A copy of an FLV file with the sound of another one, which begins so many seconds later than there."""
    header, tags = film.read_bytes()[:13], []
    for path, wanted, later in ((film, (9, 18), 0), (sound, (8,), round(1000 * seconds))):
        data, at = path.read_bytes(), 13
        while at < len(data):
            size = 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4
            tag = data[at : at + size]
            time = (tag[7] << 24 | int.from_bytes(tag[4:7], "big")) + later
            stamp = time.to_bytes(4, "big")
            tags += [(time, tag[:4] + stamp[1:] + stamp[:1] + tag[8:])] if tag[0] in wanted else []
            at += size
    target.write_bytes(header + b"".join(tag for _, tag in sorted(tags, key=lambda each: each[0])))
    return target


def pages_of(path: Path) -> list[bytes]:
    """The pages of an Ogg file (RFC 3533, 6)."""
    data, pages, at = path.read_bytes(), [], 0
    while at < len(data):
        count = data[at + 26]
        size = 27 + count + sum(data[at + 27 : at + 27 + count])
        pages.append(data[at : at + size])
        at += size
    return pages


def with_broadcast_sound(path: Path, target: Path, samples: NDArray[np.int32], bits: int) -> Path:
    """A copy of a transport stream whose sound, its second stream, becomes samples (N, 2) of 16 or 24 bits as SMPTE 302M."""
    data = path.read_bytes()
    cells = [data[at : at + 188] for at in range(0, len(data), 188)]
    content = [_with_broadcast_map(cell) if cell[1:3] == b"\x50\x00" else cell for cell in cells if cell[2] != 1]
    for number, start in enumerate(range(0, len(samples), 480)):
        piece = samples[start : start + 480].astype(np.int64)
        # of each pair: left, four bits of flags, right, four bits; the lowest bit of each comes first
        words = ((piece[:, 0], bits), (0 * piece[:, 0], 4), (piece[:, 1], bits), (0 * piece[:, 0], 4))
        rows = np.hstack([word[:, None] >> np.arange(width) & 1 for word, width in words])
        packed = np.packbits(rows.astype(np.uint8)).tobytes()
        packet = stream_packet(0xBD, start / 48000, struct.pack(">I", len(packed) << 16 | (bits - 16) // 4 << 4) + packed)
        for part in range(0, len(packet), 184):
            payload = packet[part : part + 184]
            first, stuffing = 0x40 * (part == 0), 184 - len(payload)
            field = bytes([stuffing - 1, 0][: min(stuffing, 2)]) + b"\xff" * max(stuffing - 2, 0)
            counter = (number * -(-len(packet) // 184) + part // 184) & 15
            content.append(bytes([0x47, first | 1, 1, (0x30 if stuffing else 0x10) | counter]) + field + payload)
    target.write_bytes(b"".join(content))
    return target


def _with_broadcast_map(cell: bytes) -> bytes:
    """A packet with the map of a programme (ISO/IEC 13818-1, 2.4.4.8) whose sound becomes one of SMPTE 302M."""
    section = bytearray(cell[5 : 8 + cell[7] - 4].replace(b"\x03\xe1\x01\xf0\x00", b"\x06\xe1\x01\xf0\x06\x05\x04BSSD"))
    section[2] = len(section) - 3 + 4
    crc = 0xFFFFFFFF
    for byte in section:
        for bit in range(7, -1, -1):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 ^ byte >> bit & 1 else 0)) & 0xFFFFFFFF
    return (cell[:5] + bytes(section) + crc.to_bytes(4, "big")).ljust(188, b"\xff")
