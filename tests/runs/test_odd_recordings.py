"""Recordings whose clocks, streams or edit lists are odd: nothing is lost, and what was repaired is said once."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from bwpipe.engine.run import RunResult, run
from bwpipe.graph.graph import read_graph
from bwpipe.tools.describe import describe_graph
from bwpipe.verify.compare import Pairs, verify
from bwpipe.verify.verdict import Limits
from tests.support.made_films import MKV, make_film, opened, read
from tests.support.made_recordings import (
    RATE,
    make_recording,
    number_of,
    pages_of,
    pitches,
    stream_packet,
    subtitle,
    with_broadcast_sound,
    with_edits,
    with_late_sound_in_flv,
    with_packets,
)

CONTRADICT = "contradict those around them"
JOINED = "the parts are joined there without a gap"


def written(source: Path, out: Path, codec: str = "ffv1") -> tuple[RunResult, Path]:
    stages = [{"use": "read", "path": str(source)}, {"use": "write", "path": str(out), "codec": codec}]
    result = run({"segment": 13, "stages": stages})
    assert (result.exit_code, result.failed) == (0, {})
    return result, next(path for path in sorted(out.rglob("*")) if path.is_file() and ".bwpipe" not in path.parts)


def differences(source: Path, out: Path) -> list[str]:
    report = verify(Pairs(str(source), out), Limits(), tell=lambda path, what: None, tick=lambda: None)
    assert not report.unreadable
    return [text for verdict in report.verdicts for text in verdict.differences]


def numbers(path: Path) -> list[int]:
    return [number_of(frame.luma) for frame in read(opened(path))]


def steps(path: Path) -> list[float]:
    film = opened(path)
    return [round(float(step * film.time_base), 3) for step in np.diff(film.times).tolist()]


def repairs(result: RunResult) -> list[str]:
    return [text for text in result.remarks if CONTRADICT in text or JOINED in text or "not increasing" in text]


def packets(path: Path, **stream: int) -> list[tuple[float, int]]:
    with av.open(str(path)) as container:
        found = [packet for packet in container.demux(**stream) if packet.size]
    return [(round(float((packet.pts or 0) * packet.time_base), 3), packet.size) for packet in found]


def wrong_at(places: dict[int, float]) -> Callable[[int, Any], None]:
    def change(number: int, packet: Any) -> None:
        packet.pts += round(places.get(number, 0) / packet.time_base)

    return change


@pytest.mark.parametrize(
    ("suffix", "codec", "reordered", "places"),
    [
        (".mkv", "libx264", "0", {30: 9000}),
        (".mkv", "libx264", "0", {30: 1}),
        (".mkv", "libx264", "0", {30: 0.04}),
        (".mkv", "libx264", "3", {31: 0.2}),
        (".mkv", "mpeg4", "2", {20: 0.5}),
        (".mp4", "libx264", "0", {30: 3600, 45: 3600}),
        (".mp4", "libx264", "2", {31: 0.08}),
        (".ts", "mpeg2video", "2", {12: 47721.858}),  # one flipped bit of 33
        (".ts", "libx264", "2", {31: 3, 32: 17}),
    ],
)
def test_frames_with_wrong_timestamps_come_out_in_their_places(
    suffix: str, codec: str, reordered: str, places: dict[int, float], tmp_path: Path
) -> None:
    source = make_recording(
        tmp_path / f"film{suffix}", range(60), codec=codec, options={"bf": reordered}, change=wrong_at(places)
    )

    result, path = written(source, tmp_path / "out")

    assert numbers(path) == list(range(60))
    assert set(steps(path)) == {1 / RATE}
    assert len(repairs(result)) == 1
    assert f"the timestamps of {len(places)} of its 60 frames {CONTRADICT}" in repairs(result)[0]
    assert differences(source, tmp_path / "out") == []


def test_frames_at_equal_times_do_not_share_one_in_matroska(tmp_path: Path) -> None:
    source = make_recording(tmp_path / "film.ts", range(30), change=wrong_at({12: -0.04}))

    _, path = written(source, tmp_path / "out")

    assert path.suffix == ".mkv"
    assert numbers(path) == list(range(30))
    assert set(steps(path)) == {1 / RATE}


@pytest.mark.parametrize("suffix", [".ts", ".vob"])
@pytest.mark.parametrize(("later", "after"), [(0, 0), (0, 600), (0, 0.2), (95442, 600), (600, 95443)])
def test_joined_recordings_keep_all_frames_with_the_sound_in_step(
    suffix: str, later: float, after: float, tmp_path: Path
) -> None:
    parts = [
        make_recording(tmp_path / f"1{suffix}", range(30), sounds={"mp2": 0}, later=later),
        make_recording(tmp_path / f"2{suffix}", range(30, 60), sounds={"mp2": 0}, later=after),
    ]
    source = tmp_path / f"film{suffix}"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))

    result, path = written(source, tmp_path / "out")

    assert numbers(path) == list(range(60))
    assert max(steps(path)) - min(steps(path)) < 0.002
    sound = [time for time, _ in packets(path, audio=0)]
    assert len(sound) == 2 * 50  # 24 ms each
    picture = [time for time, _ in packets(path, video=0)]
    assert sound[50] - picture[30] == pytest.approx(sound[0] - picture[0], abs=0.002)
    assert len(repairs(result)) == 1
    assert JOINED in repairs(result)[0]
    assert not any("damaged" in text for text in result.remarks)
    assert differences(source, tmp_path / "out") == []


def test_a_gap_in_the_picture_through_which_the_sound_goes_on_stays(tmp_path: Path) -> None:
    def pause(number: int, packet: Any) -> None:
        if number >= 20:
            packet.pts += round(12 / packet.time_base)
            packet.dts += round(12 / packet.time_base)

    source = make_recording(tmp_path / "film.ts", range(400), sounds={"mp2": 0}, change=pause)
    film = opened(source)

    assert len(film.times) == 400
    assert max(np.diff(film.times)) * film.time_base == pytest.approx(12.04)
    assert film.faults == ()


def test_segments_of_a_repaired_film_read_alone_equal_those_of_the_whole(tmp_path: Path) -> None:
    part = make_recording(tmp_path / "part.vob", range(40), options={"bf": "2"})
    (tmp_path / "film.vob").write_bytes(part.read_bytes() * 2)
    film = opened(tmp_path / "film.vob")
    whole = read(film)

    for start, stop, context in [(0, 11, 2), (11, 45, 3), (39, 41, 0), (70, None, 4)]:
        alone = read(film, start, stop, context)
        expected = whole[max(start - context, 0) : len(whole) if stop is None else stop + context]
        assert [(frame.index, frame.pts) for frame in alone] == [(frame.index, frame.pts) for frame in expected]
        assert all((one.luma == other.luma).all() for one, other in zip(alone, expected, strict=True))


def make_late(folder: Path, late: list[tuple[float, bytes]]) -> Path:
    plain = make_recording(folder / "plain.vob", range(180), sounds={"mp2": 0})
    return with_packets(plain, folder / "film.vob", late)


def test_subtitles_that_begin_late_are_copied_from_there(tmp_path: Path) -> None:
    times = [5.6, 6.3, 7.0]
    source = make_late(tmp_path, [(time, stream_packet(0xBD, time, subtitle(), 0x20)) for time in times])

    _, path = written(source, tmp_path / "out")

    assert packets(path, subtitles=0) == [(time, len(subtitle())) for time in times]
    assert len(packets(path, audio=0)) == 300
    assert numbers(path)[:3] == [0, 1, 2]
    assert differences(source, tmp_path / "out") == []


def test_a_second_sound_that_begins_late_is_copied_from_there(tmp_path: Path) -> None:
    plain = make_recording(tmp_path / "sound.vob", range(36), sounds={"mp2": 0})
    with av.open(str(plain)) as container:
        coded = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    late = [(5.6 + 0.024 * number, stream_packet(0xC1, 5.6 + 0.024 * number, data)) for number, data in enumerate(coded)]
    source = make_late(tmp_path, late)

    _, path = written(source, tmp_path / "out")

    assert [time for time, _ in packets(path, audio=1)] == pytest.approx([time for time, _ in late], abs=0.001)
    assert {size for _, size in packets(path, audio=1)} == {len(coded[0])}
    assert len(packets(path, audio=0)) == 300
    assert differences(source, tmp_path / "out") == []


@pytest.mark.parametrize("seconds", [4, 70])
def test_sound_of_an_flv_file_that_begins_late_is_copied_from_there(tmp_path: Path, seconds: int) -> None:
    frames = 4 * (seconds + 2)
    film = make_recording(tmp_path / "plain.flv", range(frames), codec="flv", rate=4)
    sound = make_recording(tmp_path / "sound.flv", range(25), codec="flv", sounds={"libmp3lame": 0})
    source = with_late_sound_in_flv(film, sound, tmp_path / "film.flv", seconds)

    _, path = written(source, tmp_path / "out")

    assert opened(path).frames == frames
    assert [track.kind for track in opened(path).tracks] == ["audio"]
    expected = packets(sound, audio=0)
    first = packets(path, audio=0)[0][0]
    assert first == pytest.approx(seconds + expected[0][0], abs=0.002)
    assert [size for _, size in packets(path, audio=0)] == [size for _, size in expected]
    assert differences(source, tmp_path / "out") == []


@pytest.mark.parametrize("codec", ["flac", "libopus"])
def test_a_sound_of_an_ogg_file_that_begins_late_is_copied_and_no_frame_behind_it_is_lost(codec: str, tmp_path: Path) -> None:
    film = make_recording(tmp_path / "film.ogv", range(100), codec="libvpx", muxer={"page_duration": "500000"})
    sound = make_recording(tmp_path / "sound.ogv", range(25), codec="libvpx", sounds={codec: 0}, muxer={"serial_offset": "77"})
    pages, others = pages_of(film), pages_of(sound)
    serial = next(page[14:18] for page in others if page[28:33] in (b"\x7fFLAC", b"OpusH"))
    source, middle = tmp_path / "late.ogv", len(pages) // 2
    late = [page for page in others if page[14:18] == serial]
    source.write_bytes(b"".join([*pages[:middle], *late, *pages[middle:]]))

    result, path = written(source, tmp_path / "out")

    assert not any("begin late" in text or "all of it is" in text for text in result.remarks)
    assert opened(path).frames == 100
    assert [size for _, size in packets(path, audio=0)] == [size for _, size in packets(sound, audio=0)]
    assert differences(source, tmp_path / "out") == []


def test_late_streams_in_a_chain_of_ogg_files_are_named(tmp_path: Path) -> None:
    make_recording(tmp_path / "film.ogv", range(50), codec="libvpx", muxer={"page_duration": "500000"})
    make_recording(tmp_path / "sound.ogv", range(25), codec="libvpx", sounds={"flac": 0}, muxer={"serial_offset": "77"})
    pages, others = pages_of(tmp_path / "film.ogv"), pages_of(tmp_path / "sound.ogv")
    twice, longer = tmp_path / "twice.ogv", tmp_path / "longer.ogv"
    twice.write_bytes(b"".join(pages + pages))  # nothing begins late
    longer.write_bytes(b"".join(pages + others))

    result, _ = written(twice, tmp_path / "chain")
    assert not any("begin late" in text for text in result.remarks)
    assert not any("begins after" in text for text in differences(twice, tmp_path / "chain"))

    result, _ = written(longer, tmp_path / "longer")
    assert any("it has streams that begin late and can't be found, so they are left out" in text for text in result.remarks)
    assert any("begins after" in text and "is lost" in text for text in differences(longer, tmp_path / "longer"))


def test_a_programme_that_changes_its_streams_is_read_to_its_end(tmp_path: Path) -> None:
    first = make_recording(tmp_path / "1.ts", range(200))
    second = make_recording(tmp_path / "2.ts", range(200, 250), sounds={"mp2": 0, "ac3": 0}, muxer={"mpegts_start_pid": "512"})
    source = tmp_path / "film.ts"
    source.write_bytes(first.read_bytes() + second.read_bytes())

    _, path = written(source, tmp_path / "out")

    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video", "video", "audio", "audio"]
    assert numbers(path) == list(range(200))
    assert len(packets(path, video=1)) == 50
    assert differences(source, tmp_path / "out") == []


@pytest.mark.parametrize(("suffix", "sound"), [(".mov", "pcm_s16be"), (".mp4", "aac")])
@pytest.mark.parametrize("edits", [[(0.4, 1.0), (2.4, 1.2)], [(2.4, 1.0), (0.4, 1.2)], [(0.4, 1.0), (0.41, 1.2)]])
def test_sound_follows_its_edit_list(suffix: str, sound: str, edits: list[tuple[float, float]], tmp_path: Path) -> None:
    plain = make_recording(
        tmp_path / f"plain{suffix}",
        range(100),
        codec="libx264",
        sounds={sound: 0},
        options={"bf": "2", "x264-params": "scenecut=0"},
    )
    source = with_edits(plain, tmp_path / f"film{suffix}", edits)

    _, path = written(source, tmp_path / "out", codec="h264")

    shown = [range(round(start * RATE), round((start + length) * RATE)) for start, length in edits]
    delay = 2  # of the first frame on the clock of the media, because of reordering
    assert numbers(path) == pytest.approx([number - delay for part in shown for number in part], abs=1)
    times = [start + 0.1 + 0.2 * part for start, length in edits for part in range(round(length / 0.2))]
    assert pitches(path, 2.2) == [pytest.approx(200 + 200 * time, abs=25) for time in times]
    assert differences(source, tmp_path / "out") == []


@pytest.mark.parametrize(("samples", "codec"), [("s16", "pcm_s16le"), ("s32", "pcm_s24le")])
@pytest.mark.parametrize(("suffix", "sound"), [(".vob", "pcm_dvd"), (".m2ts", "pcm_bluray")])
def test_sound_of_discs_is_stored_with_the_same_samples(
    suffix: str, sound: str, samples: str, codec: str, tmp_path: Path
) -> None:
    source = make_recording(tmp_path / f"film{suffix}", range(20), sounds={sound: 0}, samples=samples)

    check_plain_sound(source, tmp_path / "out", codec)


@pytest.mark.parametrize(("bits", "codec"), [(16, "pcm_s16le"), (24, "pcm_s24le")])
def test_sound_of_broadcasts_is_stored_with_the_same_samples(bits: int, codec: str, tmp_path: Path) -> None:
    plain = make_recording(tmp_path / "plain.ts", range(20), sounds={"mp2": 0})
    rng = np.random.default_rng(7)
    wave = rng.integers(-(1 << bits - 1), 1 << bits - 1, (20 * 1920, 2), dtype=np.int32)
    source = with_broadcast_sound(plain, tmp_path / "film.ts", wave, bits)

    found = check_plain_sound(source, tmp_path / "out", codec)

    expected = wave.astype(np.int16) if bits == 16 else wave << 8
    assert found == expected.tobytes()


def check_plain_sound(source: Path, out: Path, codec: str) -> bytes:
    """Check that the output's sound is PCM of the same samples, and return them."""
    _, path = written(source, out)

    found: list[bytes] = []
    for file in (source, path):
        with av.open(str(file)) as container:
            found.append(b"".join(frame.to_ndarray().tobytes() for frame in container.decode(audio=0)))
            stream = container.streams.audio[0]
            assert (stream.rate, stream.channels) == (48000, 2)
    assert stream.codec_context.name == codec
    assert found[0] == found[1]
    assert differences(source, out) == []
    return found[1]


def test_a_title_of_a_disc_is_one_film(tmp_path: Path) -> None:
    folder = tmp_path / "disc" / "VIDEO_TS"
    folder.mkdir(parents=True)
    whole = make_recording(tmp_path / "film.vob", range(60), sounds={"mp2": 0}).read_bytes()
    again = make_recording(tmp_path / "again.vob", range(60, 90), sounds={"mp2": 0}).read_bytes()
    cuts = [0, 20000, 20001, len(whole), len(whole + again)]
    for number, (start, stop) in enumerate(pairwise(cuts), 1):
        (folder / f"VTS_01_{number}.VOB").write_bytes((whole + again)[start:stop])
    shutil.copy(tmp_path / "again.vob", folder / "VTS_02_1.VOB")

    result, path = written(tmp_path / "disc", tmp_path / "out")

    assert result.done == 2
    assert numbers(path) == list(range(90))
    assert len(packets(path, audio=0)) == 100 + 50
    assert numbers(path.with_name("VTS_02_1.mkv")) == list(range(60, 90))
    assert differences(tmp_path / "disc", tmp_path / "out") == []

    (folder / "VTS_01_4.VOB").write_bytes(again[: len(again) // 2])  # a part other than the first has changed
    again_run, _ = written(tmp_path / "disc", tmp_path / "out")
    assert (again_run.done, again_run.already) == (1, 1)


def test_the_menus_of_a_disc_are_skipped_unless_given_alone(tmp_path: Path) -> None:
    folder = tmp_path / "disc" / "VIDEO_TS"
    folder.mkdir(parents=True)
    menu = make_recording(tmp_path / "menu.vob", range(5))
    for name in ("VTS_01_1.VOB", "VTS_01_0.VOB", "VIDEO_TS.VOB", "VTS_02_0.VOB"):
        shutil.copy(menu, folder / name)

    result, _ = written(tmp_path / "disc", tmp_path / "out")

    assert sorted(path.name for path in (tmp_path / "out" / "VIDEO_TS").iterdir()) == ["VTS_01_1.mkv", "VTS_02_0.mkv"]
    what = "menus of DVDs, which `read` takes only if given alone"
    assert result.left_out == {what: 2}
    graph = {"stages": [{"use": "read", "path": str(tmp_path / "disc")}, {"use": "write", "path": str(tmp_path / "out")}]}
    assert f"2 files are {what}, and skipped: VIDEO_TS/VIDEO_TS.VOB and 1 more" in list(describe_graph(read_graph(graph)))
    assert written(folder / "VTS_01_0.VOB", tmp_path / "alone")[1].name == "VTS_01_0.mkv"


@pytest.mark.parametrize("size", [(1024, 16), (128, 16)])
def test_the_motion_of_low_and_wide_films_is_found(size: tuple[int, int], tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mkv", replace(MKV, size=size, times=range(0, 240, 40)))
    stages = [
        {"use": "read", "path": str(source)},
        {"use": "grayscale"},
        {"use": "shots"},
        {"use": "write", "path": str(tmp_path / "out"), "codec": "ffv1"},
    ]

    result = run({"stages": stages})

    assert (result.done, result.failed) == (1, {})
