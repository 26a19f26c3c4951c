"""Finds streams that begin long after the start of an MPEG stream, FLV or Ogg file, where demuxers do not look for them."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bwpipe.verify.plain_reading import Survey
from bwpipe.verify.verdict import Verdict
from bwpipe.video.file import VideoFile

_BLOCK = 1 << 22
_MAX_HEAD = 64
"""More bytes than the header of any packet of a program stream that is read here."""
_PACK, _END, _PRIVATE = 0xBA, 0xB9, 0xBD
_START = re.compile(rb"\x00\x00\x01[\xb9-\xff]")
_FLV_KINDS = {8: "audio", 9: "video"}
_STREAM_IDS = frozenset({*range(0x1C0, 0x1F0), *range(0x20, 0x40), *range(0x80, 0xD0)})
"""Sound, video and the private streams of discs, by FFmpeg's numbers."""


def compare_late_streams(before: VideoFile, survey: Survey, verdict: Verdict) -> None:
    """Report the streams in the bytes of the input that neither its beginning states nor the reader has found."""
    scans = {"mpegts": _transport_streams, "mpeg": _program_streams, "flv": _flv_streams, "ogg": _ogg_streams}
    scan = scans.get(before.container)
    if scan is None:
        return
    known = survey.ids
    if before.container == "flv":  # its streams have no numbers
        known = frozenset(
            tag for tag, kind in _FLV_KINDS.items() if kind in {"video", *(track.kind for track in before.tracks)}
        )
    late: dict[int, int] = {}
    with suppress(OSError), before.path.open("rb") as file:
        for number, place in scan(file):
            if number not in known or before.container == "ogg":
                late.setdefault(number, place)
    numbered = before.container in ("mpegts", "mpeg", "ogg")
    found = max([before.stream_index, *(track.index for track in before.tracks)]) + 1 - survey.streams if numbered else 0
    for number, place in list(late.items())[max(found, 0) :]:
        share = place / max(_size(before.path), 1)
        verdict.lose(
            f"the stream 0x{number:x}, which begins after {share:.0%} of the file, is lost", "stream|track|subtitle|sound"
        )


def _size(path: Path) -> int:
    return path.stat().st_size


def _transport_streams(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Number and place of the packets that begin an elementary stream's data (ISO/IEC 13818-1, 2.4.3), one per stream."""
    head = file.read(_MAX_HEAD * 204)
    for length in (188, 192, 204):
        start = next((at for at in range(length) if head[at : at + 8 * length : length] == b"\x47" * 8), None)
        if start is not None:
            break
    else:
        return
    seen: set[int] = set()
    file.seek(start)
    while len(block := file.read(_BLOCK // length * length)) >= length:
        at = file.tell() - len(block)
        packets = np.frombuffer(block, np.uint8, len(block) // length * length).reshape(-1, length)
        begins = (packets[:, 0] == 0x47) & (packets[:, 1] & 0x40 != 0) & (packets[:, 3] & 0x10 != 0)
        for index in np.flatnonzero(begins):
            packet = packets[index]
            number = int(packet[1] & 0x1F) << 8 | int(packet[2])
            payload = 5 + int(packet[4]) if packet[3] & 0x20 else 4
            if number not in seen and packet[payload : payload + 3].tobytes() == b"\0\0\1":
                seen.add(number)
                yield number, at + int(index) * length


def _program_streams(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Number and place of the packets of elementary streams (ISO/IEC 13818-1, 2.5.3), one per stream."""
    seen: set[int] = set()
    base, data, at = 0, file.read(_BLOCK), 0
    while True:
        if at + _MAX_HEAD > len(data):
            base += at
            file.seek(base)
            data, at = file.read(_BLOCK), 0
            if len(data) < 9:
                return
        if not _START.match(data, at):  # damage
            found = _START.search(data, at)
            at = found.start() if found else max(len(data) - 3, at + 1)
            continue
        code = data[at + 3]
        if code == _PACK:
            at += 14 + (data[at + 13] & 7) if data[at + 4] >> 6 == 1 else 12
            continue
        if code == _END:
            at += 4
            continue
        payload = at + 9 + data[at + 8] if data[at + 6] >> 6 == 2 else at + 6
        number = data[payload] if code == _PRIVATE and payload < len(data) else 0x100 | code
        if number in _STREAM_IDS and number not in seen:
            seen.add(number)
            yield number, base + at
        at += 6 + int.from_bytes(data[at + 4 : at + 6], "big")


def _flv_streams(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Kind and place of the first tag of sound and of video (Adobe Flash Video File Format 10.1, E.3)."""
    seen: set[int] = set()
    at = int.from_bytes(file.read(9)[5:], "big") + 4
    while len(seen) < len(_FLV_KINDS):
        file.seek(at)
        tag = file.read(11)
        if len(tag) < 11:
            return
        kind = tag[0] & 0x1F
        if kind in _FLV_KINDS and kind not in seen:
            seen.add(kind)
            yield kind, at
        at += len(tag) + int.from_bytes(tag[1:4], "big") + 4


def _ogg_streams(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Serial number and place of each stream that begins while others go on, or with a codec that the file did not have before.

    Pages are those of RFC 3533, 6. What begins when all others have ended goes on with them if it has the same codec.
    """
    at, codecs, unfinished = 0, list[bytes](), set[bytes]()
    begun = again = False
    while True:
        file.seek(at)
        page = file.read(27 + 255 + 8)
        if page[:4] != b"OggS" or len(page) < 28:
            return
        flags, serial, payload = page[5], page[14:18], 27 + page[26]
        if flags & 2:
            codec = page[payload : payload + 5]
            if begun and not unfinished:
                begun, again = False, True
            if begun or (again and codec not in codecs):
                yield int.from_bytes(serial, "little"), at
            else:
                codecs.append(codec)
                unfinished.add(serial)
        else:
            begun = True
        if flags & 4:
            unfinished.discard(serial)
        at += payload + sum(page[27:payload])
