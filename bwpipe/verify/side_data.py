"""Compares what coded frames carry besides samples: captions, dynamic HDR metadata, time codes and the like."""

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any, NamedTuple, cast

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from bwpipe.verify.plain_reading import Survey, decoded
from bwpipe.verify.verdict import Verdict
from bwpipe.video.file import VideoFile

_PROBED = 3
"""Number of frames at the start that are searched for side data."""
_TIME_CODE = Type.GOP_TIMECODE
_ENCODERS = {
    bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef"),  # x264
    bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e"),  # x265
}
"""The identifiers of user data that describe the encoder of the file."""
_PAN_SCAN = struct.Struct("=3i6h")


class _Kind(NamedTuple):
    """A kind of side data: what messages call it, and what a warning about its loss mentions."""

    label: str
    topic: str


_KINDS = {
    Type.A53_CC: _Kind("closed captions", "caption"),
    Type.AFD: _Kind("active format descriptions", "active format|AFD"),
    Type.DYNAMIC_HDR_PLUS: _Kind("HDR10+ metadata", r"HDR10\+"),
    Type.DYNAMIC_HDR_VIVID: _Kind("HDR Vivid metadata", "Vivid"),
    Type.DOVI_METADATA: _Kind("Dolby Vision metadata", "Dolby Vision"),
    Type.AMBIENT_VIEWING_ENVIRONMENT: _Kind("viewing environments", "viewing environment"),
    Type.PANSCAN: _Kind("pan-scan offsets", "pan-scan|pan and scan"),
    Type.S12M_TIMECODE: _Kind("time codes of frames", "time ?code"),
    Type.STEREO3D: _Kind("3D arrangements", "3D|stereo"),
    Type.SPHERICAL: _Kind("spherical projections", "spherical"),
    Type.ICC_PROFILE: _Kind("ICC profiles of frames", "ICC"),
    Type.SEI_UNREGISTERED: _Kind("user data", "user data"),
}


def compare_side_data(
    before: VideoFile, after: VideoFile, surveys: tuple[Survey, Survey], verdict: Verdict, *, count: int | None
) -> None:
    """Compare the side data of all frames, of the first `count` if that is given.

    All frames are decoded only if the coded ones, or the first few, show signs of side data.
    """
    _compare_time_codes(before, after, surveys, verdict)
    if not (surveys[0].clues or any(_side_data(frame) for frame in decoded(before, _PROBED))):
        return
    was, now, changed = Counter[Type](), Counter[Type](), Counter[Type]()
    first: dict[Type, int] = {}
    unequal = False
    pairs = zip_longest(*(map(_side_data, decoded(video, count)) for video in (before, after)))
    for number, (one, other) in enumerate(pairs):
        unequal = unequal or one is None or other is None
        was.update((one or {}).keys())
        now.update((other or {}).keys())
        for kind, data in (one or {}).items():
            if data != (other or {}).get(kind):
                changed[kind] += 1
                first.setdefault(kind, number)
    for kind in was:
        label, topic = _KINDS[kind]
        if now[kind] < was[kind]:
            kept = f": {now[kind]} of {was[kind]} frames have them" if now[kind] else f" ({was[kind]} frames had them)"
            verdict.lose(f"its {label} are lost{kept}", topic)
        elif changed[kind] and not unequal:  # with another number of frames, which is a difference, they can't be paired
            verdict.lose(f"its {label} differ in {changed[kind]} frames, first in frame {first[kind]}", topic)
    if was:
        facts = {_KINDS[kind].label: {"input": was[kind], "output": now[kind]} for kind in was}
        verdict.facts["side_data"] = facts


def _compare_time_codes(before: VideoFile, after: VideoFile, surveys: tuple[Survey, Survey], verdict: Verdict) -> None:
    """Time code and reel, which containers store in tracks or tags, and MPEG video in the header of its first group."""
    was, now = surveys[0].time_codes, surveys[1].time_codes
    for name, label in (("timecode", "time code"), ("reel_name", "reel name")):
        for value in sorted(was.get(name, set()) - now.get(name, set())):
            verdict.lose(f"its {label} {value} is lost", label.replace(" ", " ?"))
    starts = [next((_start_code(frame) for frame in decoded(video, 1)), None) for video in (before, after)]
    if starts[0] and starts[0] != starts[1] and _digits(starts[0]) not in map(_digits, now.get("timecode", set())):
        verdict.lose(f"the time code of its first group of pictures, {starts[0]}, is lost", "time ?code")


def _start_code(frame: VideoFrame) -> str | None:
    """The time code of a group of pictures (ITU-T H.262, 6.3.8), "hh:mm:ss:ff"; None if zero: it only counts frames."""
    data = next((bytes(each) for each in _all(frame) if each.type is _TIME_CODE), b"")
    code = int.from_bytes(data[:8], "little")
    parts = code >> 19 & 31, code >> 13 & 63, code >> 6 & 63, code & 63
    return ":".join(f"{part:02}" for part in parts) if any(parts) else None


def _digits(code: str) -> str:
    return "".join(char for char in code if char.isdigit())


def _side_data(frame: VideoFrame) -> dict[Type, bytes]:
    """The side data of a frame that say something, by kind, in a form that two codecs share."""
    return dict(_stated(frame))


def _stated(frame: VideoFrame) -> Iterator[tuple[Type, bytes]]:
    for each in _all(frame):
        kind, data = each.type, bytes(each)
        if kind is Type.A53_CC:  # triplets; those without the bit 4 are padding
            data = b"".join(data[at : at + 3] for at in range(0, len(data) - 2, 3) if data[at] & 4)
        elif kind is Type.DOVI_RPU_BUFFER:
            kind = Type.DOVI_METADATA
        elif kind is Type.DOVI_METADATA or (kind is Type.SEI_UNREGISTERED and data[:16] in _ENCODERS):
            continue
        elif kind is Type.PANSCAN:  # FFmpeg's decoder of MPEG-2 gives one for every frame
            _, width, height, *offsets = _PAN_SCAN.unpack_from(data)
            whole = (width, height) in {(0, 0), (16 * frame.width, 16 * frame.height)}
            data = b"" if whole and not any(offsets) else data
        elif kind is Type.STEREO3D and not any(data[:4]):  # two-dimensional
            continue
        if data and kind in _KINDS:
            yield kind, data


def _all(frame: VideoFrame) -> list[Any]:
    try:
        return list(cast(Iterable[Any], frame.side_data))
    except ValueError:  # a kind that is newer than PyAV
        return []
