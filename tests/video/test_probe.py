import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

import av
import numpy as np
import pytest
from av.stream import Disposition

from bwpipe.errors import MediaError
from bwpipe.video.file import VideoFile, sniff
from bwpipe.video.probe import open_video
from tests.support.made_films import KINDS, MKV, Kind, make_film, moments, opened, read, spoil


@pytest.mark.parametrize("name", KINDS)
def test_opening_a_film_finds_its_properties(corpus: dict[str, VideoFile], name: str) -> None:
    film, kind = corpus[name], KINDS[name]

    frames = read(film)

    assert sniff(film.path)
    assert film.faults == ()
    assert (film.width, film.height) == kind.size
    assert [frame.pts for frame in frames] == list(film.times)
    assert [frame.index for frame in frames] == list(range(len(kind.times))) == list(range(film.frames or 0))
    assert [moment - moments(film)[0] for moment in moments(film)] == [(t - kind.times[0]) * kind.time_base for t in kind.times]
    if kind.tags.range:
        assert film.stated == film.tags == kind.tags
    assert (film.sample_aspect or 1) == (kind.aspect or 1)


@pytest.mark.parametrize(("size", "matrix"), [((64, 480), 6), ((64, 576), 5), ((64, 578), 1)])
def test_an_untagged_film_is_bt601_up_to_576_lines_and_bt709_above(size: tuple[int, int], matrix: int, tmp_path: Path) -> None:
    film = opened(make_film(tmp_path / "film.mkv", replace(MKV, size=size, times=[0])))

    assert film.tags.matrix == matrix
    assert film.matrix == ("bt709" if matrix == 1 else "bt601")
    assert film.levels == (16, 235)


def test_levels_follow_range_and_depth(corpus: dict[str, VideoFile]) -> None:
    names = ["10 bits", "full range", "10 bits, full range", "grey", "RGB", "RGB, 10 bits"]

    assert [corpus[name].levels for name in names] == [(64, 940), (0, 255), (0, 1023), (0, 255), (0, 255), (0, 1023)]


def test_tones_are_quantiles_of_luma(corpus: dict[str, VideoFile]) -> None:
    low, high = corpus["Matroska"].tones or (0, 0)
    samples = np.concatenate([frame.luma.ravel() for frame in read(corpus["Matroska"])])

    assert abs(low - np.percentile(samples, 0.5)) <= 3
    assert abs(high - np.percentile(samples, 99.5)) <= 3


def test_an_mp4_without_its_index_is_recognised_as_a_broken_film(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(corpus["10 bits"].path.read_bytes()[:2000])

    assert sniff(path)
    with pytest.raises(MediaError, match="can't be opened as a film: it is damaged"):
        opened(path)


def test_a_film_without_any_decodable_frame_is_refused(tmp_path: Path) -> None:
    path = spoil(make_film(tmp_path / "film.mkv", replace(MKV, codec="mpeg4")), slice(None))

    with pytest.raises(MediaError, match="none of its frames can be decoded"):
        opened(path)


def test_large_frames_are_refused_before_decoding(corpus: dict[str, VideoFile]) -> None:
    with pytest.raises(MediaError, match="96x64 exceed the limit of 6143 pixels: raise max_pixels"):
        open_video(corpus["10 bits"].path, PurePosixPath("film.mp4"), max_pixels=6143)


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{film}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{film}'\n",
    "dash": "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static'><BaseURL>{film}</BaseURL></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "text": "The free lunch, and other stories",
    "nothing": "",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_is_not_a_film_whatever_its_name(name: str, corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_text(PLAYLISTS[name].format(film=corpus["transport stream"].path), encoding="utf-8")

    assert not sniff(path)
    with pytest.raises(MediaError):
        opened(path)


def test_an_image_in_a_video_container_is_not_a_film(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heic")

    assert not sniff(path)


@pytest.mark.skipif(os.name != "posix", reason="such names are not allowed elsewhere")
@pytest.mark.parametrize("name", [b"http:x.mp4", b"concat:a.mp4|b.mp4", b"%s\xff?#.mp4", b"-i.mp4"])
def test_special_characters_in_file_names_have_no_meaning(name: bytes, corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(corpus["10 bits"].path.read_bytes())

    assert sniff(path)
    assert len(read(opened(path))) == 30


def test_audio_with_cover_art_is_not_a_film(tmp_path: Path) -> None:
    path = make_film(tmp_path / "song.mp4", Kind(sound="aac"))
    cover = make_film(tmp_path / "cover.mkv", replace(MKV, codec="mjpeg", pix_fmt="yuvj420p", times=[0]))
    with (
        av.open(str(path)) as song,
        av.open(str(cover)) as cover_file,
        av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as output,
    ):
        copies = [
            output.add_stream_from_template(stream, opaque=True)
            for stream in (song.streams.audio[0], cover_file.streams.video[0])
        ]
        copies[1].disposition = Disposition.attached_pic
        for copy, container, kind in zip(copies, (song, cover_file), ("audio", "video"), strict=True):
            for packet in container.demux(**{kind: 0}):
                if packet.size:
                    packet.stream = copy
                    output.mux(packet)

    assert sniff(path)
    assert not sniff(tmp_path / "song.m4a")
