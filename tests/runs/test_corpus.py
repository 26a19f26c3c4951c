"""A corpus of small films of all kinds in one run: frames, luma, timestamps, tags, sound and streams are preserved."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pytest
from numpy.testing import assert_array_equal

from bwpipe.engine.run import RunResult, run
from bwpipe.verify.compare import Pairs, Report, verify
from bwpipe.verify.verdict import Limits
from bwpipe.video.file import ColourTags
from tests.support.judge import judge_film, judge_image
from tests.support.made_films import (
    AVI,
    KINDS,
    MKV,
    MS,
    RICH,
    TS,
    UNEVEN,
    Kind,
    Rich,
    contents,
    make_film,
    make_rich_film,
    moments,
    opened,
    read,
    sound_of,
    spoil,
)
from tests.support.made_pictures import KINDS as PICTURES
from tests.support.made_pictures import make_picture
from tests.support.odd_pictures import ODD_PICTURES

pytestmark = pytest.mark.timeout(600)  # its films are generated and processed before the first test
MPEG = replace(AVI, codec="mpeg4")
FRAMES = 15
"""Of each film of the corpus: three segments, the last one shorter than the others, and at least two groups of pictures."""
SOUND: Mapping[str, Kind] = {
    "all streams, MP4": RICH["MP4"],
    "all streams, QuickTime": RICH["QuickTime"],
    "all streams, Matroska": RICH["Matroska"],
    "unusual tags": RICH["MP4, unusual tags"],
}
LATER = {"MP3 sound": Fraction(23, 1000)}
"""By how much films are later, in seconds, since their sound begins before zero, and FFV1's Matroska has no such times."""

CORPUS: Mapping[str, Kind] = {
    **KINDS,
    **SOUND,
    "12 bits, 4:4:4": replace(MKV, pix_fmt="yuv444p12le"),
    "12 bits, grey": replace(MKV, pix_fmt="gray12le"),
    "16 bits, grey": replace(MKV, pix_fmt="gray16le"),
    "4:1:1": replace(MKV, pix_fmt="yuv411p"),
    "4:1:0": replace(MKV, pix_fmt="yuv410p"),
    "4:4:0": replace(MKV, pix_fmt="yuv440p"),
    "RGB with alpha": replace(MKV, pix_fmt="bgra"),
    "ProRes": Kind(suffix=".mov", codec="prores_ks", pix_fmt="yuv422p10le"),
    "Motion JPEG": replace(AVI, codec="mjpeg", pix_fmt="yuvj420p"),
    "H.265": Kind(codec="libx265", options={"x265-params": "log-level=none", "preset": "ultrafast"}),
    "H.263": replace(AVI, codec="h263", size=(176, 144)),
    "MPEG-1": replace(AVI, suffix=".mpg", codec="mpeg1video"),
    "MPEG-2 in a transport stream": replace(AVI, suffix=".ts", codec="mpeg2video"),
    "Windows Media": Kind(suffix=".wmv", codec="wmv2", time_base=MS, times=range(0, 1200, 40)),
    "Flash": Kind(suffix=".flv", codec="flv", time_base=MS, times=range(0, 1200, 40)),
    "WebM": replace(MKV, suffix=".webm", codec="libvpx", options={"deadline": "realtime", "cpu-used": "8"}),
    "NUT": Kind(suffix=".nut", codec="ffv1", times=UNEVEN, time_base=Fraction(1, 12800)),
    "negative start": replace(MKV, times=range(-80, 1120, 40)),
    "29.97 frames a second": Kind(time_base=Fraction(1, 30000), times=range(0, 30030, 1001)),
    "open groups": Kind(options={"g": "8", "x264-params": "open-gop=1:bframes=3:b-adapt=0"}),
    "BT.2020": Kind(pix_fmt="yuv420p10le", tags=ColourTags(1, 9, 9, 16)),
    "fast": Kind(times=range(0, 30 * 128, 128)),
    "8 bits, 4:2:2": replace(MKV, pix_fmt="yuv422p"),
    "8 bits, 4:4:4": replace(MKV, pix_fmt="yuv444p"),
    "10 bits, 4:4:4": replace(MKV, pix_fmt="yuv444p10le"),
    "10 bits, grey": replace(MKV, pix_fmt="gray10le"),
    "H.264, 4:2:2": Kind(pix_fmt="yuv422p"),
    "H.264, 4:4:4": Kind(pix_fmt="yuv444p"),
    "H.264, grey": Kind(pix_fmt="gray"),
    "H.264, 10 bits, 4:2:2": Kind(pix_fmt="yuv422p10le"),
    "H.264 in AVI": AVI,
    "H.264 in Flash": Kind(suffix=".flv", time_base=MS, times=range(0, 1200, 40)),
    "H.265, 10 bits": Kind(
        codec="libx265", pix_fmt="yuv420p10le", options={"x265-params": "log-level=none", "preset": "ultrafast"}
    ),
    "H.265 in a transport stream": replace(
        TS, codec="libx265", options={"x265-params": "log-level=none", "preset": "ultrafast"}
    ),
    "MPEG-2 in QuickTime": Kind(suffix=".mov", codec="mpeg2video", time_base=Fraction(1, 25), times=range(30)),
    "MPEG-2 with B-frames": replace(AVI, suffix=".ts", codec="mpeg2video", options={"bf": "2"}),
    "MPEG-2, 4:2:2": replace(AVI, suffix=".ts", codec="mpeg2video", pix_fmt="yuv422p"),
    "MPEG-2 of a disc, with sound": replace(AVI, suffix=".vob", codec="mpeg2video", sound="mp2"),
    "MPEG-4 with B-frames in MP4": Kind(codec="mpeg4", options={"bf": "2"}),
    "Motion JPEG in QuickTime": Kind(suffix=".mov", codec="mjpeg", pix_fmt="yuvj422p"),
    "ProRes with sound": Kind(suffix=".mov", codec="prores_ks", pix_fmt="yuv422p10le", sound="pcm_s16le"),
    "HuffYUV": replace(AVI, codec="huffyuv", pix_fmt="yuv422p"),
    "FFV1 in AVI": replace(AVI, codec="ffv1"),
    "uncompressed in AVI": replace(AVI, codec="rawvideo"),
    "uncompressed, planar": Kind(suffix=".mov", codec="rawvideo", pix_fmt="yuyv422"),
    "Matroska with three kinds of reordering": replace(MKV, codec="libx264", options={"bf": "3", "b-pyramid": "normal"}),
    "VP9": replace(MKV, suffix=".webm", codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
    "Windows Media 1": Kind(suffix=".wmv", codec="wmv1", time_base=MS, times=range(0, 1200, 40)),
    "Opus sound": replace(MKV, sound="libopus"),
    "FLAC sound": replace(MKV, sound="flac"),
    "AC-3 sound": replace(MKV, sound="ac3"),
    "MP3 sound": Kind(sound="libmp3lame"),
    "50 frames a second": Kind(time_base=Fraction(1, 50), times=range(30)),
    "12 frames a second": Kind(time_base=Fraction(1, 12), times=range(20)),
    "a gap in the middle": replace(MKV, times=[*range(0, 400, 40), *range(3000, 3600, 40)]),
    "two frames": Kind(times=[0, 512]),
    "narrow": replace(MKV, size=(32, 96)),
}


class CorpusRun(NamedTuple):
    sources: dict[str, Path]
    out: Path
    result: RunResult
    report: Report


@pytest.fixture(scope="module")
def corpus_run(tmp_path_factory: pytest.TempPathFactory) -> CorpusRun:
    folder = tmp_path_factory.mktemp("corpus")
    sources = {}
    for number, (name, long) in enumerate(CORPUS.items()):
        kind = replace(long, times=long.times[:FRAMES])
        path = folder / "in" / f"{number}" / f"film{kind.suffix}"
        path.parent.mkdir(parents=True)
        sources[name] = make_rich_film(path, kind) if isinstance(kind, Rich) else make_film(path, kind)
        for other in path.parent.iterdir():
            if other != path:
                other.unlink()
    stages = [
        {"use": "read", "path": str(folder / "in")},
        {"use": "write", "path": str(folder / "out"), "codec": "ffv1"},
    ]
    result = run({"segment": 6, "stages": stages})
    pairs = Pairs(str(folder / "in"), folder / "out")
    report = verify(pairs, Limits(), tell=lambda path, what: None, tick=lambda: None)
    return CorpusRun(sources, folder / "out", result, report)


def test_the_corpus_is_large_and_completely_written(corpus_run: CorpusRun) -> None:
    assert len(CORPUS) >= 40
    assert corpus_run.result.failed == {}
    assert corpus_run.result.done == len(CORPUS)


def test_verify_confirms_that_only_colour_was_added(corpus_run: CorpusRun) -> None:
    found = {str(verdict.input): verdict.differences for verdict in corpus_run.report.verdicts}

    assert found == {str(source): [] for source in corpus_run.sources.values()}
    for verdict in corpus_run.report.verdicts:
        assert verdict.facts["frames"]["compared"] == verdict.facts["frames"]["input"] > 0


@pytest.mark.parametrize("name", CORPUS)
def test_a_judge_that_shares_no_code_with_the_reader_finds_no_loss(corpus_run: CorpusRun, name: str) -> None:
    source = corpus_run.sources[name]
    (path,) = (corpus_run.out / source.parent.name).iterdir()

    shift = [f"frame 0 at {float(LATER[name])} s instead of 0.0 s"] if name in LATER else []
    assert judge_film(source, path) == shift


@pytest.mark.parametrize("name", CORPUS)
def test_everything_but_chroma_is_preserved(corpus_run: CorpusRun, name: str) -> None:
    source = corpus_run.sources[name]
    (path,) = (corpus_run.out / source.parent.name).iterdir()
    film, output = opened(source), opened(path)

    assert output.faults == ()
    exact = "matroska" in film.container or "matroska" not in output.container
    rounding = 0 if exact else MS / 2
    later = LATER.get(name, 0)
    assert max(abs(a + later - b) for a, b in zip(moments(film), moments(output), strict=True)) <= rounding
    assert (output.width, output.height, output.depth, output.levels) == (film.width, film.height, film.depth, film.levels)
    assert (output.stated, output.orientation, output.fields) == (film.tags, film.orientation, film.fields)
    assert [packet[2] for packet in sound_of(output)] == [packet[2] for packet in sound_of(film)]
    for before, after in zip(read(film), read(output), strict=True):
        assert_array_equal(before.luma, after.luma)
    if name in SOUND:
        assert contents(path) == contents(source)


def test_a_judge_that_shares_no_code_with_the_reader_finds_no_loss_in_pictures(tmp_path: Path) -> None:
    sources = {}
    for number, kind in enumerate(PICTURES):
        for orientation in (1, 8):
            folder = tmp_path / "in" / f"{number}-{orientation}"
            folder.mkdir(parents=True)
            sources[kind, orientation] = make_picture(folder, kind, orientation=orientation).path
    stages = [{"use": "read", "path": str(tmp_path / "in")}, {"use": "write", "path": str(tmp_path / "out"), "verify": True}]

    result = run({"stages": stages}, quiet=True)

    assert result.failed == {}
    assert result.done == len(sources) > 30
    found = {}
    for name, source in sources.items():
        (path,) = (tmp_path / "out" / source.parent.name).iterdir()
        found[name] = judge_image(source, path)
    assert found == {name: [] for name in sources}


def test_pictures_of_other_programs_keep_everything_but_their_chroma(tmp_path: Path) -> None:
    sources = {}
    for number, (name, (suffix, make)) in enumerate(ODD_PICTURES.items()):
        sources[name] = tmp_path / "in" / f"{number}" / f"picture{suffix}"
        sources[name].parent.mkdir(parents=True)
        sources[name].write_bytes(make())
    stages = [
        {"use": "read", "path": str(tmp_path / "in")},
        {"use": "grayscale", "colour": "recolour"},
        {"use": "colorize", "model": "autoencoder", "device": "cpu"},
        {"use": "write", "path": str(tmp_path / "out")},
    ]

    result = run({"stages": stages}, quiet=True)

    assert result.failed == {}
    assert result.done == len(ODD_PICTURES) >= 30
    pairs = Pairs(str(tmp_path / "in"), tmp_path / "out")
    report = verify(pairs, Limits(), tell=lambda path, what: None, tick=lambda: None)
    assert [verdict.differences for verdict in report.verdicts] == [[]] * len(ODD_PICTURES)
    outputs = {name: next((tmp_path / "out" / source.parent.name).iterdir()) for name, source in sources.items()}
    assert {name: judge_image(source, outputs[name]) for name, source in sources.items()} == {name: [] for name in sources}


def test_damaged_films_are_written_as_far_as_possible_with_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    damaged = {
        "short.mkv": cut(make_film(folder / "short.mkv", replace(MKV, times=range(0, 2400, 40)))),
        "less.avi": cut(make_film(folder / "less.avi", replace(MPEG, times=range(60)))),
        "cut.mp4": cut(make_film(folder / "cut.mp4", Kind(times=range(0, 60 * 512, 512)), {"movflags": "faststart"})),
        "spoilt.mkv": spoil(make_film(folder / "spoilt.mkv", replace(MKV, codec="mjpeg", pix_fmt="yuvj420p")), slice(12, 14)),
        "torn.avi": spoil(make_film(folder / "torn.avi", MPEG), slice(12, 14)),
    }
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "headless.mp4").write_bytes(damaged["cut.mp4"].read_bytes()[:1000])
    stages = [{"use": "read", "path": str(folder)}, {"use": "write", "path": str(tmp_path / "out"), "preset": "ultrafast"}]

    result = run({"segment": 13, "stages": stages})

    assert {path.name for path in result.failed} == {"empty.mp4", "headless.mp4"}
    assert result.done == len(damaged)
    written = {path.stem for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert written == {Path(name).stem for name in damaged}
    report = (tmp_path / "out" / ".bwpipe" / "report.jsonl").read_text()
    for name in damaged:
        assert name in "\n".join(line for line in report.splitlines() if '"warning"' in line)


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    return path
