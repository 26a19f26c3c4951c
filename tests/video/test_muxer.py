import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bwpipe.core.frame import Unit
from bwpipe.video.decoder import read_video
from bwpipe.video.encoding import Encoding
from bwpipe.video.file import VideoFile, open_container
from bwpipe.video.muxer import VideoMuxer
from bwpipe.video.pixel_formats import plane
from bwpipe.video.segment_encoder import SegmentWriter
from tests.support.made_films import (
    FFV1,
    H264,
    KINDS,
    MKV,
    MS,
    RICH,
    UNTAGGED,
    Kind,
    contents,
    joined,
    make_film,
    make_rich_film,
    moments,
    opened,
    read,
    rewritten,
    segment,
    sound_of,
)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("encoding", [H264, FFV1], ids=["h264", "ffv1"])
def test_writing_a_film_changes_nothing_but_its_chroma(
    corpus: dict[str, VideoFile], name: str, encoding: Encoding, tmp_path: Path
) -> None:
    film = corpus[name]
    warnings: list[str] = []

    output = rewritten(film, tmp_path, encoding, warn=warnings.append)

    rounding = MS / 2 if any("milliseconds" in text for text in warnings) else 0
    assert len(output.times) == len(film.times)
    assert max(abs(a - b) for a, b in zip(moments(film), moments(output), strict=True)) <= rounding
    assert (output.width, output.height, output.depth, output.levels, output.orientation, output.fields) == (
        film.width,
        film.height,
        film.depth,
        film.levels,
        film.orientation,
        film.fields,
    )
    assert bool(film.fields) == ("interlaced" in name)
    assert output.stated == film.tags
    assert (output.sample_aspect or 1) == (film.sample_aspect or 1)
    before, after = sound_of(film), sound_of(output)
    assert [packet[2] for packet in after] == [packet[2] for packet in before]
    assert all(abs(one[0] - other[0]) <= rounding for one, other in zip(before, after, strict=True))
    assert [(track.kind, track.label) for track in output.tracks] == [(track.kind, track.label) for track in film.tracks]
    if encoding is FFV1:
        for one, other in zip(read(film), read(output), strict=True):
            assert_array_equal(one.luma, other.luma)


def test_the_duration_of_the_last_frame_is_kept(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus["uneven times, late sound"]

    output = rewritten(film, tmp_path, replace(FFV1, container="same"))  # Matroska has no place for it

    assert output.last == film.last is not None


def test_the_duration_of_the_last_frame_is_kept_if_frames_are_reordered(tmp_path: Path) -> None:
    film = opened(make_film(tmp_path / "film.mp4", Kind(times=range(0, 30 * 128, 128))))
    assert film.last == 512

    with open_container(rewritten(film, tmp_path, H264).path) as container:
        stream = container.streams.video[0]
        assert (stream.start_time, stream.duration) == (0, 29 * 128 + 512)


def test_language_and_disposition_of_audio_are_kept(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus["uneven times, late sound"]
    with open_container(film.path) as before, open_container(rewritten(film, tmp_path, H264).path) as after:
        assert after.streams.audio[0].language == before.streams.audio[0].language == "fra"
        assert after.streams.audio[0].disposition == before.streams.audio[0].disposition


def test_only_audio_packets_before_the_end_of_a_trial_are_written(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus["uneven times, late sound"]

    output = rewritten(film, tmp_path, H264, stop=12)

    end = int(film.times[12]) * film.time_base
    assert moments(output) == moments(film)[:12]
    assert sound_of(output) == [packet for packet in sound_of(film) if packet[0] < end] != []


@pytest.mark.parametrize("number", range(1, 9))
def test_all_eight_orientations_are_kept(number: int, tmp_path: Path) -> None:
    degrees, mirrored = {
        1: (0, False),
        2: (180, True),
        3: (180, False),
        4: (0, True),
        5: (90, True),
        6: (-90, False),
        7: (-90, True),
        8: (90, False),
    }[number]
    film = opened(make_film(tmp_path / "film.mp4", Kind(times=[0], turn=(degrees, mirrored))))

    output = rewritten(film, tmp_path, FFV1)

    assert film.orientation == output.orientation == number
    assert film.display == output.display


def test_the_bitstream_carries_the_colour_tags_including_assumed_ones(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus["one frame"]
    with open_container(rewritten(film, tmp_path, H264).path) as container:
        bare = av.CodecContext.create("h264", "r")
        bare.extradata = container.streams.video[0].codec_context.extradata
        frames = [frame for packet in container.demux(video=0) for frame in bare.decode(packet)]

    assert film.stated == UNTAGGED
    assert film.tags == (1, 6, 6, 6)
    assert [(p.color_range, p.colorspace, p.color_primaries, p.color_trc) for p in frames] == [film.tags]


def test_chroma_is_written_unchanged(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus["10 bits"]
    chroma = np.random.default_rng(7).integers(0, 1024, (2, 32, 48)).astype(np.uint16)
    joined(tmp_path / "output.mp4", film, FFV1, [segment(tmp_path / "fragment", film, FFV1, chroma)], warn=print)

    with open_container(tmp_path / "output.mp4") as container:
        for frame in container.decode(video=0):
            assert_array_equal(np.stack([plane(frame, index, 10) for index in (1, 2)]), chroma)


def test_planes_of_another_shape_or_dtype_are_refused(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "fragment", corpus["turned"], H264)
    luma = np.zeros((64, 96), np.uint8)
    with pytest.raises(ValueError, match=r"plane 1 is uint8 \(64, 96\), not uint8 \(32, 48\)"):
        writer.write(luma, np.zeros((2, 64, 96), np.uint8), 0, None)
    with pytest.raises(ValueError, match="plane 0 is uint16"):
        writer.write(luma.astype(np.uint16), np.zeros((2, 32, 48), np.uint8), 0, None)
    writer.abandon()


@pytest.mark.parametrize("encoding", [H264, FFV1], ids=["h264", "ffv1"])
@pytest.mark.parametrize("name", RICH)
def test_every_stream_chapter_tag_language_and_disposition_is_kept(name: str, encoding: Encoding, tmp_path: Path) -> None:
    film = opened(make_rich_film(tmp_path / f"rich{RICH[name].suffix}", RICH[name]))
    warnings: list[str] = []

    output = rewritten(film, tmp_path, encoding, warn=warnings.append)

    another = ["it is written as .mp4: its own container can't hold ffv1 with all of its streams and tags"]
    assert warnings == (another if output.path.suffix != RICH[name].suffix else [])
    assert output.path.suffix == RICH[name].suffix or (name, encoding.codec) == ("QuickTime", "ffv1")
    assert contents(output.path) == contents(film.path)
    with open_container(output.path) as container:
        assert [stream.type for stream in container.streams].count("video") == 2 + RICH[name].cover


def test_streams_that_the_container_can_not_hold_are_named(tmp_path: Path) -> None:
    film = opened(make_rich_film(tmp_path / "rich.mp4", RICH["MP4"]))
    warnings: list[str] = []

    output = rewritten(
        film, tmp_path, Encoding(codec="libvpx", options={"deadline": "realtime", "cpu-used": "8"}), warn=warnings.append
    )

    assert output.path.suffix == ".mkv"
    assert "subtitle track 4 (mov_text, ger) is left out: .mkv can't hold it" in warnings
    assert "it is written as .mkv: its own container can't hold libvpx with all of its streams and tags" in warnings


@pytest.mark.parametrize(
    "encoding",
    [H264, FFV1, Encoding(codec="h265", preset="ultrafast"), Encoding(codec="av1", preset="12")],
    ids=lambda encoding: encoding.codec,
)
@pytest.mark.parametrize("name", ["uneven times, late sound", "Matroska"])
def test_writing_the_same_film_twice_gives_the_same_bytes(
    name: str, encoding: Encoding, corpus: dict[str, VideoFile], tmp_path: Path
) -> None:
    (tmp_path / "again").mkdir()

    first, again = (rewritten(corpus[name], folder, encoding) for folder in (tmp_path, tmp_path / "again"))

    assert first.path.read_bytes() == again.path.read_bytes()


def test_uninitialised_memory_does_not_change_the_file(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mkv", replace(MKV, size=(176, 144)))
    program = (
        "import sys; from pathlib import Path; from tests.support.made_films import H264, opened, rewritten;"
        " rewritten(opened(Path(sys.argv[1])), Path(sys.argv[2]), H264)"
    )
    outputs = []
    for pattern in ("0", "1", "85"):
        folder = tmp_path / pattern
        folder.mkdir()
        command = [sys.executable, "-c", program, str(source), str(folder)]
        environment = {**os.environ, "MALLOC_PERTURB_": pattern}  # makes the C library fill memory with this byte
        subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[2], timeout=60)
        outputs.append((folder / "written.mkv").read_bytes())

    assert outputs[0] == outputs[1] == outputs[2]


def open_files() -> set[str]:
    return {file.name for file in Path("/proc/self/fd").iterdir()}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_an_abandoned_film_leaves_no_file_open(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus["Matroska"]
    before = open_files()

    encoder = SegmentWriter(tmp_path / "fragment", film, H264)
    frames = read_video(Unit(film), warn=print)
    for _, frame in zip(range(3), frames, strict=False):
        encoder.write(frame.luma, np.zeros((2, 32, 48), np.uint8), frame.pts or 0, frame.duration)
    encoder.abandon()
    writer = VideoMuxer(tmp_path / "output.mkv", film, H264, warn=print)
    writer.abandon()
    del frames

    assert open_files() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_an_os_error(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus["odd size"]
    grey = np.full((2, 32, 49), 128, np.uint8)
    whole = segment(tmp_path / "fragment", film, FFV1, grey)

    with pytest.raises(OSError, match="space") as coding:
        segment(Path("/dev/full"), film, FFV1, grey)
    with pytest.raises(OSError, match="space") as joining:
        joined(Path("/dev/full"), film, FFV1, [whole], warn=print)
    assert coding.value.errno == joining.value.errno == errno.ENOSPC
