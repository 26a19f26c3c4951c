"""What coded frames carry besides samples: captions and the like, put into the input by this test's own code."""

import re
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

import bwpipe
from bwpipe.verify.verdict import Limits
from bwpipe.verify.video import verify_video
from tests.support.made_films import opened

COUNT = 20
NOTE = bytes(range(16))
"""The identifier of user data that are not an encoder's."""


def bits(*fields: tuple[int, int]) -> bytes:
    text = "".join(f"{value:0{width}b}" for value, width in fields)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def captions(number: int) -> bytes:
    return b"\xb5\x00\x31GA94\x03" + bytes([0x42, 0xFF, 0xFC, 0x94, number & 127, 0xFD, 0, 0]) + b"\xff"


def active_format(number: int) -> bytes:
    return b"\xb5\x00\x31DTG1" + bytes([0x41, 0xF8 | number % 4])


def user_data(number: int) -> bytes:
    return NOTE + b"start codes \x00\x00\x01 \x00\x00\x00" + bytes([number])


def viewing_environment(_: int) -> bytes:
    return (314_000).to_bytes(4, "big") + (15_635).to_bytes(2, "big") + (16_450).to_bytes(2, "big")


def time_code(number: int) -> bytes:
    """10:59:xx:xx, drop frame, of one field pair."""
    head = ((1, 2), (1, 1), (1, 1), (0, 5), (1, 1), (0, 1), (1, 1))
    return bits(*head, (number % 10, 9), (number // 10, 6), (59, 6), (10, 5), (0, 5), (1, 1))


def hdr10_plus(number: int, windows: int = 2) -> bytes:
    """All fields of SMPTE ST 2094-40."""
    ellipse = ((16, 16), (12, 16), (45, 8), (8, 16), (12, 16), (10, 16), (1, 1))
    window = (
        (99_999, 17),
        (5, 17),
        (12_345 + number, 17),
        (777, 17),
        (2, 4),
        (1, 7),
        (7, 17),
        (95, 7),
        (88_888, 17),
        (500, 10),
    )
    curve = ((1, 1), (2000, 12), (3333, 12), (3, 4), (100, 10), (512, 10), (1023, 10), (1, 1), (7, 6))
    table = ((1, 1), (2, 5), (3, 5), (0, 4), (3, 4), (15, 4), (7, 4), (8, 4), (9, 4))
    others = [field for _ in range(1, windows) for field in ((5, 16), (6, 16), (40, 16), (30, 16), *ellipse)]
    fields = [(1, 8), (windows, 2), *others, (1000 + number, 27), *table, *window * windows, *table, *curve * windows]
    return b"\xb5\x00\x3c\x00\x01\x04" + bits(*fields)


MESSAGES: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "A53_CC": (4, captions),
    "AFD": (4, active_format),
    "SEI_UNREGISTERED": (5, user_data),
    "AMBIENT_VIEWING_ENVIRONMENT": (148, viewing_environment),
    "DYNAMIC_HDR_PLUS": (4, hdr10_plus),
    "S12M_TIMECODE": (136, time_code),
}
COMMON = ("A53_CC", "AFD", "AMBIENT_VIEWING_ENVIRONMENT", "SEI_UNREGISTERED")


def sei(codec: str, kind: int, payload: bytes) -> bytes:
    message = bytes([kind]) + b"\xff" * (len(payload) // 255) + bytes([len(payload) % 255]) + payload + b"\x80"
    escaped = re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", message)
    return b"\0\0\0\1" + (b"\x06" if codec == "libx264" else b"\x4e\x01") + escaped


def make_captioned(path: Path, codec: str, kinds: tuple[str, ...] = COMMON) -> Path:
    """Write a film whose frames, some of them B-frames, carry messages."""
    first = {"libx264": rb"\x00?\x00\x00\x01[\x01\x41\x61\x65]", "libx265": rb"\x00?\x00\x00\x01[\x00-\x3f]\x01"}[codec]
    options = {"libx264": {"bf": "2"}, "libx265": {"x265-params": "log-level=none:bframes=2"}}[codec]
    with av.open(str(path), "w", format="mpegts") as output:
        stream = output.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        coded = []
        for number in range(COUNT):
            grey = np.full((96, 96), 128, np.uint8)
            grey[:64, : 4 * number + 4] = 200
            frame = VideoFrame.from_ndarray(grey, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            coded += stream.encode(frame)
        for packet in [*coded, *stream.encode(None)]:
            data, number = bytes(packet), round((packet.pts or 0) * packet.time_base * 25)
            found = re.search(first, data)
            assert found
            messages = b"".join(sei(codec, MESSAGES[kind][0], MESSAGES[kind][1](number)) for kind in kinds)
            copy = Packet(data[: found.start()] + messages + data[found.start() :])
            copy.pts, copy.dts, copy.time_base, copy.is_keyframe = packet.pts, packet.dts, packet.time_base, packet.is_keyframe
            copy.stream = stream
            output.mux(copy)
    return path


def carried(path: Path) -> list[dict[str, bytes]]:
    """The side data of each frame: without an encoder's notes, and without the part of time codes that FFmpeg leaves random."""
    with av.open(str(path)) as film:
        frames: list[Any] = list(film.decode(video=0))
    pairs = [[(data.type.name, bytes(data)) for data in frame.side_data] for frame in frames]
    return [
        {
            kind: data[:8] if kind == "S12M_TIMECODE" else data
            for kind, data in each
            if kind in MESSAGES and (kind != "SEI_UNREGISTERED" or data.startswith(NOTE))
        }
        for each in pairs
    ]


def written(source: Path, out: Path, segment: int | str = "off", **options: Any) -> Path:
    graph = {
        "segment": segment,
        "stages": [{"use": "read", "path": str(source)}, {"use": "write", "path": str(out), **options}],
    }
    result = bwpipe.run(graph)
    assert not result.failed
    return next(path for path in out.iterdir() if path.is_file())


def test_the_test_film_carries_what_this_test_put_in(tmp_path: Path) -> None:
    film = carried(make_captioned(tmp_path / "film.ts", "libx265", tuple(MESSAGES)))

    assert len(film) == COUNT
    assert all(each.keys() == MESSAGES.keys() for each in film)


@pytest.mark.parametrize("segment", ["off", 7])
@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("suffix", [".ts", ".mp4"])
def test_captions_of_every_frame_survive(suffix: str, codec: str, segment: int | str, tmp_path: Path) -> None:
    source = make_captioned(tmp_path / "film.ts", "libx264")
    if suffix == ".mp4":
        source = remuxed(source, tmp_path / "film.mp4")
    before = carried(source)

    output = written(source, tmp_path / "out", segment, codec=codec)

    assert output.suffix == {".ts": ".mkv", ".mp4": ".mp4"}[suffix]
    assert carried(output) == before
    assert [frame.keys() for frame in before] == [set(COMMON)] * COUNT
    assert verify_video(opened(source), opened(output), Limits()).differences == []


def remuxed(source: Path, target: Path) -> Path:
    with av.open(str(source)) as film, av.open(str(target), "w") as output:
        copy = output.add_stream_from_template(film.streams.video[0], opaque=True)
        for packet in film.demux(film.streams.video[0]):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    return target


def test_dynamic_hdr_and_time_codes_survive_in_h265_byte_for_byte(tmp_path: Path) -> None:
    source = make_captioned(tmp_path / "film.ts", "libx265", tuple(MESSAGES))

    output = written(source, tmp_path / "out", codec="h265")

    assert carried(output) == carried(source)


@pytest.mark.parametrize("codec", ["ffv1", "h264"])
def test_each_kind_that_a_codec_can_not_store_is_named_once(codec: str, tmp_path: Path, capsys: Any) -> None:
    source = make_captioned(tmp_path / "film.ts", "libx265", tuple(MESSAGES))

    written(source, tmp_path / "out", 7, codec=codec)

    warnings = capsys.readouterr().err
    hdr = f"its HDR10+ metadata are lost: {codec} can't store them; `codec: h265` would keep them"
    assert warnings.count(hdr) == 1
    assert warnings.count("its SMPTE 12M time codes are lost") == 1
    text = "its closed captions are lost: ffv1 can't store them; `codec: h264` or `codec: h265` would keep them"
    assert warnings.count(text) == (codec == "ffv1")


def test_the_note_of_the_inputs_encoder_is_not_carried(tmp_path: Path) -> None:
    source = make_captioned(tmp_path / "film.ts", "libx265", ())

    output = written(source, tmp_path / "out", codec="h264")

    assert b"x264" in output.read_bytes()
    assert b"x265" not in output.read_bytes()


def test_the_same_captions_give_the_same_bytes(tmp_path: Path) -> None:
    source = make_captioned(tmp_path / "film.ts", "libx264")

    first, second = (written(source, tmp_path / name, 7) for name in ("one", "two"))

    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(("turned", "shown"), [(1, 1), (3, 3), (6, 6), (8, 8)])
def test_frames_with_side_data_that_pyav_does_not_know_are_read_and_that_is_said(
    turned: int, shown: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a camera", turned
    coded = BytesIO()
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(coded, "JPEG", exif=exif)
    source = tmp_path / "film.avi"
    with av.open(str(source), "w") as output:
        stream = output.add_stream("mjpeg", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        output.start_encoding()
        for number in range(5):
            packet = Packet(coded.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            packet.is_keyframe = True
            output.mux(packet)

    film = opened(written(source, tmp_path / "out"))

    assert (len(film.times), film.orientation) == (5, shown)
    lost = "its side data of an unreadable kind are lost: they can't be written"
    assert capsys.readouterr().err.count(lost) == 1


def test_the_time_code_that_an_mpeg_2_film_starts_with_becomes_a_tag(tmp_path: Path) -> None:
    codes = {"at ten": "10:00:00:00", "at zero": "00:00:00:00"}
    found = {}
    for name, code in codes.items():
        source = tmp_path / f"{name}.ts"
        with av.open(str(source), "w") as output:
            stream = output.add_stream("mpeg2video", rate=25, options={"gop_timecode": code})
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(15):
                frame = VideoFrame.from_ndarray(np.full((72, 64), 128, np.uint8), format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        film = opened(written(source, tmp_path / name))
        found[name] = {key.lower(): value for key, value in film.metadata[1].items()}.get("timecode")

    assert found == {"at ten": "10:00:00:00", "at zero": None}
