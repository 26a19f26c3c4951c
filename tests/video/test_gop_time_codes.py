"""Time codes of groups of pictures (MPEG-2): jumps are named, what counts on is not."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

import bwpipe
from bwpipe.video.gop_time_codes import GopTimeCodes
from tests.support.made_films import MKV, make_film, opened

MPEG2 = replace(
    MKV, codec="mpeg2video", time_base=Fraction(1, 25), times=range(60), options={"g": "12", "gop_timecode": "09:59:58:00"}
)
HEADER = b"\0\0\1\xb8"


def with_time_code(data: bytes, group: int, hours: int) -> bytes:
    """A film whose groups from one on have other hours."""
    pieces = data.split(HEADER)
    for number in range(group + 1, len(pieces)):
        bits = int.from_bytes(pieces[number][:4], "big") & ~(31 << 26) | hours << 26
        pieces[number] = bits.to_bytes(4, "big") + pieces[number][4:]
    return HEADER.join(pieces)


def test_time_codes_that_jump_within_a_film_are_named(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mkv", MPEG2)
    assert not opened(film).faults
    film.write_bytes(with_time_code(film.read_bytes(), 3, 17))

    stages = [{"use": "read", "path": str(film)}, {"use": "write", "path": str(tmp_path / "out"), "verify": True}]
    result = bwpipe.run({"stages": stages})

    assert not result.failed
    assert (
        "the time codes of its groups of pictures jump at 1 place (first: frame 36, from 09:59:58:24 to 17:59:59:11);"
        " only that of the start is kept" in result.remarks
    )


def header(hours: int, minutes: int, seconds: int, frames: int, *, drop: bool = False) -> memoryview:
    bits = drop << 31 | hours << 26 | minutes << 20 | 1 << 19 | seconds << 13 | frames << 7
    return memoryview(b"\0\0\1\xb3" + bytes(8) + HEADER + bits.to_bytes(4, "big") + bytes(40))


@pytest.mark.parametrize(
    ("codes", "jumps"),
    [
        ([(0, 0, 0, 0)] * 4, False),  # an encoder that does not count
        ([(23, 59, 59, 12), (0, 0, 0, 0), (0, 0, 0, 12)], False),  # midnight
        ([(1, 0, 0, 0), (1, 0, 0, 15), (1, 0, 1, 6)], False),  # three fields for every second frame: shown as 15
        ([(1, 0, 0, 0), (1, 0, 1, 0), (1, 0, 1, 12)], True),
    ],
)
def test_what_counts_on_is_no_jump(codes: list[tuple[int, int, int, int]], jumps: bool, tmp_path: Path) -> None:
    pulled_down = codes[1][3] == 15
    watched = GopTimeCodes(Fraction(24))
    for number, code in enumerate(codes):
        watched.add(header(*code), number * (15 if pulled_down else 12) / 24)
        for _ in range(11):
            watched.add(memoryview(b"\0\0\1\0" + bytes(60)), None)

    assert bool(watched.sentence()) is jumps


def test_codes_of_drop_frame_leave_out_two_numbers_a_minute() -> None:
    watched = GopTimeCodes(Fraction(30000, 1001))
    watched.add(header(1, 0, 59, 28, drop=True), 0.0)
    watched.add(memoryview(bytes(60)), None)
    watched.add(header(1, 1, 0, 2, drop=True), 2 * 1001 / 30000)

    assert not watched.sentence()
