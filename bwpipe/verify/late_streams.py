"""Finds streams that begin long after the start of a transport or program stream, where demuxers do not look for them."""

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
_STREAM_IDS = frozenset({*range(0x1C0, 0x1F0), *range(0x20, 0x40), *range(0x80, 0xD0)})
"""Sound, video and the private streams of discs, by FFmpeg's numbers."""


def compare_late_streams(before: VideoFile, survey: Survey, verdict: Verdict) -> None:
    """Report the streams in the bytes of the input that neither its beginning states nor the reader has found."""
    scan = {"mpegts": _transport_streams, "mpeg": _program_streams}.get(before.container)
    if scan is None:
        return
    late: dict[int, int] = {}
    with suppress(OSError), before.path.open("rb") as file:
        for number, place in scan(file):
            if number not in survey.ids:
                late.setdefault(number, place)
    found = max([before.stream_index, *(track.index for track in before.tracks)]) + 1 - survey.streams
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
