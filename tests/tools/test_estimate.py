import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bwpipe.tools.estimate import bytes_in_words, duration
from bwpipe.video.excerpt import write_excerpt
from tests.cli.test_commands import bwpipe
from tests.support.made_films import AVI, MKV, TS, Kind, make_film, opened, read
from tests.support.made_pictures import make_picture
from tests.support.remuxed import recoded

EXCERPTS = {
    "H.264 with B-frames": Kind(times=range(0, 180 * 512, 512), options={"g": "20"}),
    "MPEG-4": Kind(codec="mpeg4", times=range(0, 180 * 512, 512)),
    "transport stream": replace(TS, times=range(0, 180 * 3600, 3600), options={"g": "20"}),
    "FFV1": replace(MKV, times=range(0, 180 * 40, 40)),
    "AVI": replace(AVI, times=range(180)),
}


def run_probe(folder: Path, **write: object) -> tuple[str, Path]:
    """The output of `check --probe` for a graph that reads a folder, and the graph's output folder."""
    stages = [{"use": "read", "path": str(folder)}, {"use": "write", "path": str(folder.parent / "out"), **write}]
    graph = folder.parent / "graph.yaml"
    graph.write_text(yaml.safe_dump({"stages": stages}))
    return bwpipe("check", str(graph), "--probe"), folder.parent / "out"


def test_time_and_size_are_estimated_for_each_film_and_folder(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    (scans / "album").mkdir(parents=True)
    film = make_film(scans / "film.mkv", replace(MKV, sound="aac", times=range(0, 8000, 40)))
    for kind in ("png-grey", "pgm", "jpeg-grey"):
        make_picture(scans / "album", kind, width=400, height=250)

    output, out = run_probe(scans, codec="ffv1")

    assert f"{film}: 200 frames of 96x64, 8.0 s, ffv1\n  1 other stream kept: audio track 1 (aac, fra)\n" in output
    assert "by a trial of 90 frames spread over the film: " in output
    assert f"{scans / 'album'}: 3 pictures, 0.3 megapixels\n" in output
    assert "by a trial of 3 of all pictures" in output
    assert re.search(r"in total: about .*, .* of output; peak memory .*B\n$", output)
    assert not out.exists()
    match = re.search(r"([\d.]+) ([kM])B of output, by a trial of 90 frames", output)
    assert match
    size = float(match[1]) * {"k": 1e3, "M": 1e6}[match[2]]
    bwpipe("run", str(tmp_path / "graph.yaml"), "--quiet")
    assert 0.8 < size / (out / "film.mkv").stat().st_size < 1.25


def test_a_film_that_starts_with_a_still_is_sampled_throughout(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    noise = make_film(tmp_path / "noise.mkv", replace(MKV, codec="libx264", times=range(0, 12000, 40)))
    film = recoded(noise, scans / "film.mkv", "ffv1", lambda number, luma: luma * (number >= 60))

    output, out = run_probe(scans, codec="ffv1")
    bwpipe("run", str(tmp_path / "graph.yaml"), "--quiet")

    match = re.search(r"([\d.]+) ([kM])B of output, by a trial of 90 frames spread over the film", output)
    assert match
    size = float(match[1]) * {"k": 1e3, "M": 1e6}[match[2]]
    assert 0.6 < size / (out / film.name).stat().st_size < 1.4


def test_a_film_with_one_keyframe_is_sampled_at_its_start(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    make_film(scans / "film.mkv", replace(MKV, codec="libx264", times=range(0, 4000, 40)))

    assert "by a trial of 90 frames at its start: " in run_probe(scans, codec="ffv1")[0]


@pytest.mark.parametrize("name", ["H.264 with B-frames", "MPEG-4", "transport stream", "FFV1", "AVI"])
def test_an_excerpt_contains_exact_frames_of_a_film(name: str, tmp_path: Path) -> None:
    film = opened(make_film(tmp_path / f"film{EXCERPTS[name].suffix}", EXCERPTS[name]))

    written = write_excerpt(film, tmp_path / "some.mkv", 30)

    assert written == (name != "AVI")  # without timestamps of frames, decoding can't start midway
    if written:
        some = opened(tmp_path / "some.mkv")
        assert len(some.times) == 30
        assert some.faults == ()
        known = [frame.luma.tobytes() for frame in read(film)]
        places = [known.index(frame.luma.tobytes()) for frame in read(some)]
        assert places == sorted(set(places))
        assert places[0] < 60 <= places[10] < 120 <= places[20] < 180


def test_a_stream_that_would_be_lost_is_named(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    make_film(scans / "film.mp4", Kind(times=range(0, 5 * 512, 512), sound="aac"))

    output, _ = run_probe(scans, codec="h264")

    assert "  1 other stream kept: audio track 1 (aac, fra)\n" in output
    assert " lost" not in output


def test_nothing_is_estimated_when_everything_is_done(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    make_picture(tmp_path / "scans", "pgm")
    run_probe(tmp_path / "scans")
    bwpipe("run", str(tmp_path / "graph.yaml"), "--quiet")

    output, _ = run_probe(tmp_path / "scans")

    assert output.endswith("would read: nothing\ndone already: 1\n")


def test_the_estimate_for_pictures_includes_the_start_and_never_says_that_they_take_no_time(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for kind in ("pgm", "png-grey"):
        make_picture(tmp_path / "scans", kind)

    output, _ = run_probe(tmp_path / "scans")

    match = re.search(r"^starting: about (.*), by a trial of one picture$", output, re.MULTILINE)
    assert match
    assert match[1] != duration(0.1)  # Python's own start counts, and what is imported
    assert "about 0.0 s, " not in output


def test_sizes_and_durations_are_rounded_to_words_that_people_write() -> None:
    assert [bytes_in_words(size) for size in (999.7, 999_600, 999_999_999, 2e12, 5e15, -3)] == [
        "1 kB",
        "1 MB",
        "1 GB",
        "2 TB",
        "5000 TB",
        "0 B",
    ]
    assert [duration(seconds) for seconds in (59.97, -0.01, -90)] == ["1 min 00 s", "0.0 s", "0.0 s"]


def test_durations_and_sizes_are_formatted() -> None:
    assert [duration(seconds) for seconds in (0.25, 59.94, 75, 3599.6, 7322)] == [
        "0.2 s",
        "59.9 s",
        "1 min 15 s",
        "1 h 00 min",
        "2 h 02 min",
    ]
    assert [bytes_in_words(size) for size in (12, 2_340, 5.6e6, 7.89e9)] == ["12 B", "2.34 kB", "5.6 MB", "7.89 GB"]
