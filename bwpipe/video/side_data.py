"""Side data of frames: captions, HDR10+, time codes and the like, which coded frames carry besides their samples.

Encoders take side data with a frame only, and PyAV can't attach any. So they are put into the coded frames themselves, as SEI
messages of H.264 and H.265 (ITU-T H.264 and H.265, annex D). They follow from the frame alone, so segments stay independent.
"""

import re
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from av.packet import Packet, PacketSideData, packet_sidedata_type_from_literal
from av.sidedata.sidedata import SideData as SideDataOfFrame
from av.sidedata.sidedata import SideDataContainer, Type
from av.stream import Stream
from av.video.frame import VideoFrame

from bwpipe.video.hdr10_plus import hdr10_plus_payload

SideData = tuple[tuple[str, bytes], ...]
"""Pairs of a kind (a key of `KINDS`) and FFmpeg's bytes for it."""

_REGISTERED, _UNREGISTERED, _TIME_CODE, _AMBIENT = 4, 5, 136, 148
"""Types of SEI messages."""
_ATSC, _SAMSUNG = b"\xb5\x00\x31", b"\xb5\x00\x3c\x00\x01\x04"
"""The country and provider codes of ITU-T T.35 by which ATSC A/53 and HDR10+ begin."""
_MOST_CAPTIONS = 31
"""The most caption packets, of three bytes each, in a message."""
_ENCODERS = {
    bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef"),  # x264
    bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e"),  # x265
}
"""What user data begin with that describe the encoder of the input."""
_PAN_SCAN = struct.Struct("=3i6h")
_RATIONALS = struct.Struct("=6i")
_PAIRS_ABOVE = 30
"""Frames per second above which time codes count pairs of frames, and have a bit for the second of a pair (ST 12-1, 12)."""
_START_CODE = re.compile(rb"\x00\x00\x01")


class Kind(NamedTuple):
    """A kind of side data.

    Attributes:
        label: What messages call it, in the plural.
        codecs: The codecs, by FFmpeg's name, in which it can be stored.
    """

    label: str
    codecs: frozenset[str] = frozenset()


_UNKNOWN = "UNKNOWN"
_H26X = frozenset({"h264", "hevc"})
KINDS: dict[str, Kind] = {
    "A53_CC": Kind("closed captions", _H26X),
    "AFD": Kind("active format descriptions", _H26X),
    "DYNAMIC_HDR_PLUS": Kind("HDR10+ metadata", frozenset({"hevc"})),
    "AMBIENT_VIEWING_ENVIRONMENT": Kind("viewing environment metadata", _H26X),
    "SEI_UNREGISTERED": Kind("user data", _H26X),
    "S12M_TIMECODE": Kind("SMPTE 12M time codes", frozenset({"hevc"})),
    "DOVI_METADATA": Kind("Dolby Vision metadata"),
    "DYNAMIC_HDR_VIVID": Kind("HDR Vivid metadata"),
    "PANSCAN": Kind("pan-scan offsets"),
    "STEREO3D": Kind("3D arrangement data"),
    "SPHERICAL": Kind("spherical projection data"),
    "ICC_PROFILE": Kind("ICC profiles"),
    "FILM_GRAIN_PARAMS": Kind("film grain parameters"),
    _UNKNOWN: Kind("side data of an unreadable kind"),
}
"""The kinds that `read_side_data` gives, by FFmpeg's names. Those without codecs are lost."""


def read_side_data(frame: VideoFrame) -> SideData:
    """The side data of a decoded frame that `KINDS` names, without what says nothing."""
    found = _found(frame)
    if found is None:
        return ((_UNKNOWN, b""),)
    pairs = ((data.type.name, bytes(data)) for data in found if data.type.name in KINDS)
    return tuple((kind, _without_rest(kind, data)) for kind, data in pairs if _says_something(kind, data, frame))


def side_data_of(frame: VideoFrame) -> dict[Type, bytes]:
    """All side data of a decoded frame, by kind; empty if PyAV can't read them."""
    return {data.type: bytes(data) for data in _found(frame) or ()}


def _found(frame: VideoFrame) -> list[SideDataOfFrame] | None:
    """None if some are of a kind that is newer than PyAV, such as EXIF of motion JPEG: it then gives none at all.

    Not by `frame.side_data`: a frame keeps that, and that the frame, so that its samples stay in memory until Python looks for
    such circles, hundreds of frames later.
    """
    try:
        return list(SideDataContainer(frame))  # type: ignore[call-arg]  # which PyAV's stubs don't know
    except ValueError:
        return None


def _without_rest(kind: str, data: bytes) -> bytes:
    """Side data without memory that FFmpeg does not fill."""
    return data[: 4 * (1 + min(data[0], 3))] if kind == "S12M_TIMECODE" else data


def _says_something(kind: str, data: bytes, frame: VideoFrame) -> bool:
    match kind:
        case "SEI_UNREGISTERED":
            return data[:16] not in _ENCODERS
        case "PANSCAN":  # FFmpeg's MPEG-2 decoder gives one for every frame
            _, width, height, *offsets = _PAN_SCAN.unpack_from(data)
            return any(offsets) or (width, height) not in {(0, 0), (16 * frame.width, 16 * frame.height)}
        case "STEREO3D":
            return data[:4] != bytes(4)  # two-dimensional
        case _:
            return bool(data)


def start_time_code(frame: VideoFrame) -> str | None:
    """The time code of a GOP header before the first frame, as "hh:mm:ss:ff", with ";" for drop frame; None if all zero."""
    code = int.from_bytes(side_data_of(frame).get(Type.GOP_TIMECODE, b"")[:8], "little")
    hours, minutes, seconds, frames = code >> 19 & 31, code >> 13 & 63, code >> 6 & 63, code & 63
    if not (hours or minutes or seconds or frames):
        return None
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{';' if code >> 24 & 1 else ':'}{frames:02d}"


def lost_side_data(side_data: SideData, codec: str) -> set[str]:
    """The kinds that can't be stored in a codec, by FFmpeg's name of it."""
    return {kind for kind, _ in side_data if codec not in KINDS[kind].codecs}


def loss(kind: str, codec: str) -> str:
    """The warning about a kind that is lost, without the file name; `codec` is the user's name of it."""
    label, codecs = KINDS[kind]
    if not codecs:
        return f"its {label} are lost: they can't be written"
    names = " or ".join(f"`codec: {name}`" for name, alias in (("h264", "h264"), ("h265", "hevc")) if alias in codecs)
    return f"its {label} are lost: {codec} can't store them; {names} would keep them"


def add_to_block(packet: "Packet[Stream]", additions: bytes) -> None:
    """Give a packet what Matroska stores beside it, such as the alpha channel of VP9."""
    data = PacketSideData(packet_sidedata_type_from_literal("matroska_block_additional"), len(additions))  # type: ignore[call-arg]
    data.update(additions)
    packet.set_sidedata(data)


def add_side_data(coded: bytes, side_data: SideData, codec: str, rate: Fraction = Fraction(25)) -> bytes:
    """A coded frame with its side data, as far as the codec can store them.

    Args:
        coded: The frame from the encoder, with start codes (ITU-T H.264 and H.265, annex B).
        side_data: Its side data.
        codec: FFmpeg's name of the codec.
        rate: Frames per second, which the meaning of time codes depends on.
    """
    stored = [(kind, data) for kind, data in side_data if codec in KINDS[kind].codecs]
    if not stored or (at := _before_picture(coded, codec)) is None:
        return coded
    header = b"\x06" if codec == "h264" else b"\x4e\x01"  # the NAL unit header of (prefix) SEI
    messages = (message for kind, data in stored for message in _messages(kind, data, rate))
    units = [b"\0\0\0\1" + header + _escaped(_sei(number, payload)) for number, payload in messages]
    return coded[:at] + b"".join(units) + coded[at:]


def _before_picture(coded: bytes, codec: str) -> int | None:
    """Where the first slice of a coded frame begins, with its start code; None if there is none."""
    for found in _START_CODE.finditer(coded):
        if found.end() == len(coded):
            return None
        first = coded[found.end()]
        if 1 <= first & 31 <= 5 if codec == "h264" else first >> 1 & 63 < 32:
            at = found.start()
            return at - 1 if at and coded[at - 1] == 0 else at  # a fourth byte of the start code belongs to it
    return None


def _captions(data: bytes) -> Iterator[bytes]:
    """Captions as ATSC A/53 part 4 stores them (6.2.3)."""
    for at in range(0, len(data) - 2, 3 * _MOST_CAPTIONS):
        part = data[at : at + 3 * _MOST_CAPTIONS]
        yield b"GA94\x03" + bytes([0x40 | len(part) // 3, 0xFF]) + part[: len(part) // 3 * 3] + b"\xff"


def _messages(kind: str, data: bytes, rate: Fraction) -> Iterator[tuple[int, bytes]]:
    """The SEI messages of a kind: their types and payloads."""
    match kind:
        case "A53_CC":
            yield from ((_REGISTERED, _ATSC + payload) for payload in _captions(data))
        case "AFD":  # ATSC A/53 part 4, 6.2.4
            yield _REGISTERED, _ATSC + b"DTG1" + bytes([0x41, 0xF0 | data[0] & 15])
        case "DYNAMIC_HDR_PLUS":
            yield _REGISTERED, _SAMSUNG + hdr10_plus_payload(data)
        case "SEI_UNREGISTERED":
            yield _UNREGISTERED, data
        case "AMBIENT_VIEWING_ENVIRONMENT":
            numbers = _RATIONALS.unpack_from(data)
            lux, x, y = (Fraction(top, bottom or 1) for top, bottom in zip(numbers[::2], numbers[1::2], strict=True))
            yield _AMBIENT, struct.pack(">IHH", round(lux * 10_000), round(x * 50_000), round(y * 50_000))
        case "S12M_TIMECODE":
            yield _TIME_CODE, _time_codes(data, rate)


def _time_codes(data: bytes, rate: Fraction) -> bytes:
    """Time codes of H.265 (D.2.27) of FFmpeg's: their number, at most three, and the words of SMPTE ST 12-1."""
    count, *words = struct.unpack(f"={len(data) // 4}I", data)
    bits = f"{count:02b}"
    for word in words:
        frames, seconds, minutes, hours = (
            (word >> at & 15) + 10 * (word >> at + 4 & tens) for at, tens in ((24, 3), (16, 7), (8, 7), (0, 3))
        )
        if rate > _PAIRS_ABOVE:
            frames = 2 * frames + (word >> (7 if rate == 50 else 23) & 1)
        dropped = word >> 30 & 1
        # a clock time stamp, whose unit is two fields; counting type 0; all of its parts; no discontinuity
        bits += f"11{0:05b}10{dropped}{frames:09b}{seconds:06b}{minutes:06b}{hours:05b}{0:05b}"
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _sei(number: int, payload: bytes) -> bytes:
    """The SEI message of a type, and the end of its NAL unit."""
    return b"".join(b"\xff" * (value // 255) + bytes([value % 255]) for value in (number, len(payload))) + payload + b"\x80"


def _escaped(data: bytes) -> bytes:
    """The bytes of a NAL unit in which no start code occurs (ITU-T H.264, 7.4.1.1)."""
    return re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", data)
