import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from av.codec.codec import codecs_available
from numpy.testing import assert_array_equal

from bwpipe.errors import MediaError, UsageError
from bwpipe.verify.verdict import Limits
from bwpipe.verify.video import verify_video
from bwpipe.video.container import Container, container_for, conversion_notes
from bwpipe.video.encoding import Encoding, check_encoding, chroma_grid, encoder, encoder_options, pixel_format
from bwpipe.video.file import FULL, VideoFile
from bwpipe.video.muxer import VideoMuxer
from bwpipe.video.segment_encoder import SegmentWriter
from tests.support.made_films import FFV1, H264, MKV, RICH, Kind, make_film, make_rich_film, opened, read, rewritten

PRORES = Encoding(codec="prores")


REFUSED = {
    "there is no video encoder 'h26'; did you mean 'h264'?": Encoding(codec="h26"),
    "there is no video encoder 'ffvl'; did you mean 'ffv1'?": Encoding(codec="ffvl"),
    "there is no video encoder 'aac'; the usual ones are h264, h265 and ffv1": Encoding(codec="aac"),
    "the encoder ffv1 has no option 'crf'": Encoding(codec="ffv1", crf=17),
    "the encoder libx264 has no option 'tuner'; did you mean 'tune'?": Encoding(options={"tuner": "film"}),
    "the encoder libx264 has no pixel format 'yuv420'; did you mean 'yuv420p'?": Encoding(pix_fmt="yuv420"),
    "the encoder libx264 rejects these options; change `codec` or its options": Encoding(options={"level": "77"}),
}


@pytest.mark.parametrize("text", REFUSED)
def test_an_unknown_encoding_is_refused_with_a_suggestion(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_encoding(REFUSED[text])

    assert str(caught.value) == text


@pytest.mark.parametrize(
    "encoding",
    [
        Encoding(),
        Encoding(codec="h265", crf=20, preset="fast"),
        Encoding(codec="av1", crf=30, preset="10"),
        FFV1,
        PRORES,
        Encoding(codec="libvpx-vp9", crf=30),
    ],
)
def test_a_known_encoding_is_accepted(encoding: Encoding) -> None:
    check_encoding(encoding)


def test_the_output_has_the_container_of_the_input_or_is_matroska(corpus: dict[str, VideoFile]) -> None:
    chosen = {name: container_for(film, FFV1).suffix for name, film in corpus.items()}

    assert chosen["Matroska"] == chosen["AVI"] == chosen["transport stream"] == ".mkv"
    assert chosen["10 bits"] == chosen["PCM sound"] == ".mkv"
    assert container_for(corpus["10 bits"], H264) == Container("mp4", ".mp4")
    assert container_for(corpus["PCM sound"], H264) == Container("mov", ".mov")
    # FFmpeg refuses AV1 in QuickTime
    assert container_for(corpus["PCM sound"], Encoding(codec="av1")) == Container("mp4", ".mp4")


def test_ffv1_goes_into_matroska_and_that_is_said(corpus: dict[str, VideoFile]) -> None:
    warnings = list(conversion_notes(corpus["10 bits"], FFV1))

    assert any("archives keep FFV1 in Matroska (RFC 9043); `container: same`" in text for text in warnings)
    assert container_for(corpus["10 bits"], replace(FFV1, container="same")) == Container("mp4", ".mp4")


def test_ffv1_goes_where_subtitles_and_the_aspect_ratio_are_kept(tmp_path: Path) -> None:
    rich = opened(make_rich_film(tmp_path / "rich.mp4", RICH["MP4"]))

    assert container_for(rich, FFV1) == Container("mp4", ".mp4")
    assert container_for(replace(rich, tracks=()), FFV1) == Container("matroska", ".mkv")


def test_more_bits_than_the_encoder_supports_are_refused(tmp_path: Path) -> None:
    film = opened(make_film(tmp_path / "film.mkv", replace(MKV, pix_fmt="yuv420p12le")))

    with pytest.raises(MediaError) as caught:
        VideoMuxer(tmp_path / "output.mkv", film, H264, warn=print)

    assert str(caught.value) == (
        "libx264 can't encode frames of 96x64 with 12 bits as yuv420p12le or yuv444p12le or yuv422p12le;"
        " choose another `codec` (`h265` and `ffv1` would keep all of it), or fewer bits with `pix_fmt: yuv420p10le`"
    )


@pytest.mark.parametrize("name", ["uneven times, late sound", "Matroska", "interlaced", "10 bits", "grey"])
def test_prores_stores_8_bits_in_10(name: str, corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus[name]
    if film.tags.range == FULL:
        with pytest.raises(MediaError, match=r"with 8 bits in full range as yuv420p or .*; choose another `codec` \(`h265`"):
            chroma_grid(film, PRORES)
        return
    assert chroma_grid(film, PRORES).step == (1, 2)
    warnings: list[str] = []

    output = rewritten(film, tmp_path, PRORES, warn=warnings.append)

    assert (output.depth, output.fields) == (10, film.fields)
    assert ("its 8-bit samples are stored in 10 bits, with zeros in the low bits" in warnings) == (film.depth == 8)
    assert verify_video(film, output, Limits()).differences == []


def test_vp8_is_written_by_one_thread_however_many_are_asked_for(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    one, four = tmp_path / "one", tmp_path / "four"
    for folder, threads in ((one, 1), (four, 4)):
        folder.mkdir()
        rewritten(corpus["Matroska"], folder, Encoding(codec="libvpx", threads=threads))

    assert (one / "written.mkv").read_bytes() == (four / "written.mkv").read_bytes()


def test_more_bits_on_request_only_shift_the_samples(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    film = corpus["Matroska"]

    output = rewritten(film, tmp_path, Encoding(codec="ffv1", pix_fmt="yuv422p12le"))

    assert output.pix_fmt == "yuv422p12le"
    for before, after in zip(read(film), read(output), strict=True):
        assert_array_equal(before.luma.astype(int) * 16, after.luma)


NVENC = [name for name in ("h264_nvenc", "hevc_nvenc", "av1_nvenc") if name in codecs_available]


@pytest.mark.parametrize("codec", NVENC)
def test_an_encoder_without_its_hardware_is_refused_in_a_sentence(codec: str) -> None:
    try:
        check_encoding(Encoding(codec=codec, crf=20))
    except UsageError as error:
        assert str(error) == f"the encoder {codec} needs hardware that is missing here; change `codec` or its options"  # noqa: PT017


@pytest.mark.parametrize("codec", NVENC)
def test_nvenc_has_its_own_quality_options(codec: str) -> None:
    assert encoder_options(Encoding(codec=codec))["rc"] == "vbr"
    options = encoder_options(Encoding(codec=codec, crf=21.5, preset="p7"))
    known = {option.name for option in encoder(codec).create("video").supported_options.private}
    assert (options["cq"], options["preset"]) == ("21.5", "p7")
    assert options.keys() <= known


def test_chroma_keeps_the_grid_of_the_source_and_full_resolution_for_odd_sizes(corpus: dict[str, VideoFile]) -> None:
    assert chroma_grid(corpus["10 bits"], H264) == (32, 48, (2, 2), (0.5, 0.0))
    assert chroma_grid(corpus["10 bits, 4:2:2"], H264) == (64, 48, (1, 2), (0.0, 0.0))
    assert chroma_grid(corpus["grey"], H264) == (32, 48, (2, 2), (0.5, 0.0))
    assert chroma_grid(corpus["RGB"], H264) == (64, 96, (1, 1), (0.0, 0.0))
    assert chroma_grid(corpus["odd size"], H264) == (63, 97, (1, 1), (0.0, 0.0))
    assert chroma_grid(corpus["odd size"], FFV1) == (32, 49, (2, 2), (0.5, 0.0))


@pytest.mark.parametrize(("container", "suffix"), [("mkv", ".mkv"), ("mov", ".mov"), ("mp4", ".mp4"), ("same", ".mp4")])
def test_a_container_that_is_asked_for_is_taken(container: Any, suffix: str, corpus: dict[str, VideoFile]) -> None:
    assert container_for(corpus["10 bits"], Encoding(codec="h265", container=container)).suffix == suffix


@pytest.mark.parametrize(("container", "codec"), [("mov", "ffv1"), ("mp4", "prores"), ("same", "ffv1")])
def test_a_container_that_can_not_hold_the_codec_is_refused(container: Any, codec: str, corpus: dict[str, VideoFile]) -> None:
    name = "AVI" if container == "same" else "10 bits"

    with pytest.raises(MediaError, match="choose `container: mkv"):
        container_for(corpus[name], Encoding(codec=codec, container=container))


def atoms(path: Path) -> list[bytes]:
    """The types of the boxes of an MP4 or QuickTime file, in order."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        found.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big")
    return found


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_the_index_is_first_and_h265_is_marked_for_players_of_apple(container: Any, tmp_path: Path) -> None:
    film = opened(make_film(tmp_path / "film.mp4", Kind(sound="aac")))

    written = rewritten(film, tmp_path, Encoding(codec="h265", preset="ultrafast", container=container))

    kinds = atoms(written.path)
    assert kinds.index(b"moov") < kinds.index(b"mdat")
    assert b"hvc1" in written.path.read_bytes()
    assert b"hev1" not in written.path.read_bytes()


def test_dnxhr_of_frames_that_are_too_small_is_refused_before_the_work_begins(corpus: dict[str, VideoFile]) -> None:
    with pytest.raises(MediaError, match="dnxhr takes frames of 256x120 pixels at least, not of 96x64; choose another `codec`"):
        pixel_format(corpus["Matroska"], Encoding(codec="dnxhr"))


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv422p10le", "yuv444p10le"])
def test_dnxhr_takes_films_of_any_size(pix_fmt: str, tmp_path: Path) -> None:
    film = opened(make_film(tmp_path / "film.mkv", replace(MKV, pix_fmt=pix_fmt, size=(256, 120))))

    written = rewritten(film, tmp_path, Encoding(codec="dnxhr", container="mov"))

    assert (written.codec, written.depth, written.frames) == ("dnxhd", film.depth, film.frames)


@pytest.mark.skipif(sys.platform != "linux" or "libsvtav1" not in codecs_available, reason="SVT-AV1 does so on Linux only")
def test_an_encoder_leaves_threads_as_they_were_scheduled(corpus: dict[str, VideoFile], tmp_path: Path) -> None:
    def policies() -> set[int]:
        return {os.sched_getscheduler(int(entry.name)) for entry in os.scandir("/proc/self/task")}

    check_encoding(Encoding(codec="libsvtav1", crf=40))
    writer = SegmentWriter(tmp_path / "fragment", corpus["Matroska"], Encoding(codec="libsvtav1"))
    assert policies() == {os.SCHED_OTHER}  # its own threads, too
    writer.abandon()
    rewritten(corpus["Matroska"], tmp_path, Encoding(codec="libsvtav1"))
    assert policies() == {os.SCHED_OTHER}
