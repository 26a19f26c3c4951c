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
    make_corpus,
    make_film,
    make_rich_film,
    moments,
    opened,
    read,
    rewritten,
    segment,
    sound_of,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, VideoFile]:
    return make_corpus(tmp_path_factory.mktemp("films"))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("encoding", [H264, FFV1], ids=["h264", "ffv1"])
def test_a_film_that_is_written_keeps_all_but_its_chroma(
    corpus: dict[str, VideoFile], name: str, encoding: Encoding, tmp_path: Path
) -> None:
    film = corpus[name]
    said: list[str] = []

    made = rewritten(film, tmp_path, encoding, warn=said.append)

    rounding = MS / 2 if any("milliseconds" in text for text in said) else 0
    assert len(made.times) == len(film.times)
    assert max(abs(a - b) for a, b in zip(moments(film), moments(made), strict=True)) <= rounding
    assert (made.width, made.height, made.depth, made.levels, made.orientation, made.fields) == (
        film.width,
        film.height,
        film.depth,
        film.levels,
        film.orientation,
        film.fields,
    )
    assert bool(film.fields) == ("interlaced" in name)
    assert made.stated == film.tags
    assert (made.sample_aspect or 1) == (film.sample_aspect or 1)
    heard, kept = sound_of(film), sound_of(made)
    assert [packet[2] for packet in kept] == [packet[2] for packet in heard]
    assert all(abs(before[0] - after[0]) <= rounding for before, after in zip(heard, kept, strict=True))
    assert [(track.kind, track.label) for track in made.tracks] == [(track.kind, track.label) for track in film.tracks]
    if encoding is FFV1:
        for before, after in zip(read(film), read(made), strict=True):
            assert_array_equal(before.luma, after.luma)


def test_the_last_frame_is_shown_as_long_as_before(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus["uneven times, late sound"]

    made = rewritten(film, tmp_path, FFV1)

    assert made.last == film.last is not None


def test_the_last_frame_is_shown_as_long_as_before_where_frames_are_reordered(tmp_path: Path) -> None:
    film = opened(make_film(tmp_path / "film.mp4", Kind(times=range(0, 30 * 128, 128))))
    assert film.last == 512

    with open_container(rewritten(film, tmp_path, H264).path) as container:
        stream = container.streams.video[0]
        assert (stream.start_time, stream.duration) == (0, 29 * 128 + 512)


def test_language_and_disposition_of_sound_are_kept(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus["uneven times, late sound"]
    with open_container(film.path) as before, open_container(rewritten(film, tmp_path, H264).path) as after:
        assert after.streams.audio[0].language == before.streams.audio[0].language == "fra"
        assert after.streams.audio[0].disposition == before.streams.audio[0].disposition


def test_only_packets_before_the_end_of_a_trial_are_heard(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus["uneven times, late sound"]

    made = rewritten(film, tmp_path, H264, stop=12)

    end = int(film.times[12]) * film.time_base
    assert moments(made) == moments(film)[:12]
    assert sound_of(made) == [packet for packet in sound_of(film) if packet[0] < end] != []


@pytest.mark.parametrize("number", range(1, 9))
def test_a_film_may_be_turned_in_eight_ways(number: int, tmp_path: Path) -> None:
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

    made = rewritten(film, tmp_path, FFV1)

    assert film.orientation == made.orientation == number
    assert film.display == made.display


def test_the_coded_picture_itself_carries_the_tags_even_the_assumed_ones(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus["one frame"]
    with open_container(rewritten(film, tmp_path, H264).path) as container:
        bare = av.CodecContext.create("h264", "r")
        bare.extradata = container.streams.video[0].codec_context.extradata
        pictures = [picture for packet in container.demux(video=0) for picture in bare.decode(packet)]

    assert film.stated == UNTAGGED
    assert film.tags == (1, 6, 6, 6)
    assert [(p.color_range, p.colorspace, p.color_primaries, p.color_trc) for p in pictures] == [film.tags]


def test_chroma_is_written_as_it_is_given(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus["10 bits"]
    chroma = np.random.default_rng(7).integers(0, 1024, (2, 32, 48)).astype(np.uint16)
    joined(tmp_path / "made.mp4", film, FFV1, [segment(tmp_path / "fragment", film, FFV1, chroma)], warn=print)

    with open_container(tmp_path / "made.mp4") as container:
        for picture in container.decode(video=0):
            assert_array_equal(np.stack([plane(picture, index, 10) for index in (1, 2)]), chroma)


def test_planes_of_another_shape_or_type_are_refused(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
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
    said: list[str] = []

    made = rewritten(film, tmp_path, encoding, warn=said.append)

    another = ["it becomes .mp4, since its own container can't hold ffv1 with all of its streams and tags"]
    assert said == (another if made.path.suffix != RICH[name].suffix else [])
    assert made.path.suffix == RICH[name].suffix or (name, encoding.codec) == ("QuickTime", "ffv1")
    assert contents(made.path) == contents(film.path)
    with open_container(made.path) as container:
        assert [stream.type for stream in container.streams].count("video") == 2 + RICH[name].cover


def test_what_no_container_holds_is_named(tmp_path: Path) -> None:
    film = opened(make_rich_film(tmp_path / "rich.mp4", RICH["MP4"]))
    said: list[str] = []

    made = rewritten(film, tmp_path, Encoding(codec="libvpx", options={"deadline": "realtime"}), warn=said.append)

    assert made.path.suffix == ".mkv"
    assert "subtitle track 4 (mov_text, ger) is left out: .mkv can't hold it" in said
    assert "it becomes .mkv, since its own container can't hold libvpx with all of its streams and tags" in said


@pytest.mark.parametrize(
    "encoding",
    [H264, FFV1, Encoding(codec="h265", preset="ultrafast"), Encoding(codec="av1", preset="12")],
    ids=lambda encoding: encoding.codec,
)
@pytest.mark.parametrize("name", ["uneven times, late sound", "Matroska"])
def test_the_same_film_is_written_in_the_same_bytes(
    name: str, encoding: Encoding, corpus: dict[str, VideoFile], tmp_path: Path
) -> None:
    (tmp_path / "again").mkdir()

    first, again = (rewritten(corpus[name], folder, encoding) for folder in (tmp_path, tmp_path / "again"))

    assert first.path.read_bytes() == again.path.read_bytes()


def test_what_lies_in_unused_memory_does_not_change_the_file(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mkv", replace(MKV, size=(176, 144)))
    program = (
        "import sys; from pathlib import Path; from tests.support.made_films import H264, opened, rewritten;"
        " rewritten(opened(Path(sys.argv[1])), Path(sys.argv[2]), H264)"
    )
    made = []
    for pattern in ("0", "1", "85"):
        folder = tmp_path / pattern
        folder.mkdir()
        command = [sys.executable, "-c", program, str(source), str(folder)]
        surroundings = {**os.environ, "MALLOC_PERTURB_": pattern}  # the C library then fills memory with it
        subprocess.run(command, check=True, env=surroundings, cwd=Path(__file__).parents[2], timeout=60)
        made.append((folder / "written.mkv").read_bytes())

    assert made[0] == made[1] == made[2]


def files_open() -> set[str]:
    return {file.name for file in Path("/proc/self/fd").iterdir()}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files by /proc")
def test_a_film_that_is_abandoned_leaves_no_file_open(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus["Matroska"]
    before = files_open()

    coder = SegmentWriter(tmp_path / "fragment", film, H264)
    frames = read_video(Unit(film), warn=print)
    for _, frame in zip(range(3), frames, strict=False):
        coder.write(frame.luma, np.zeros((2, 32, 48), np.uint8), frame.pts or 0, frame.duration)
    coder.abandon()
    writer = VideoMuxer(tmp_path / "made.mkv", film, H264, warn=print)
    writer.abandon()
    del frames

    assert files_open() == before


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
