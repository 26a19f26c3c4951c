"""Numbered frames as one film: found, read, and written as a film."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

import bwpipe
from bwpipe.errors import UsageError
from bwpipe.graph.templates import template
from bwpipe.tools.describe import describe_graph, graph_to_json
from tests.support.made_films import opened, read
from tests.support.made_reels import SUFFIXES, Kind, dpx_file, scene, write_frame, write_reel

FRAMES = scene(12)


def graph(path: Path | str, out: Path, *, segment: int = 5, write: dict[str, Any] | None = None, **options: Any) -> Any:
    options.setdefault("rate", 24)
    reading = {"use": "read", "path": str(path), **{key: value for key, value in options.items() if value is not None}}
    writing = {"use": "write", "path": str(out), "as": "film", "codec": "ffv1", **(write or {})}
    return {"segment": segment, "stages": [reading, writing]}


def run(path: Path | str, out: Path, **options: Any) -> "bwpipe.RunResult":
    return bwpipe.run(graph(path, out, **options))


def lumas(path: Path) -> NDArray[Any]:
    return np.stack([frame.luma for frame in read(opened(path))])


def test_a_pattern_with_a_rate_is_one_film_of_exactly_the_same_luma(tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "png8", FRAMES)

    result = run(tmp_path / "in/reel1_%06d.png", tmp_path / "out")

    assert (result.done, result.failed) == (1, {})
    film = opened(tmp_path / "out/reel1.mkv")
    assert (film.frames, film.rate) == (12, Fraction(24))
    assert np.array_equal(lumas(film.path), np.rint(FRAMES * 255))


def test_names_with_brackets_percent_signs_and_stars_are_names(tmp_path: Path) -> None:
    folder, prefix = tmp_path / "film [1922] 50%", "r[1]_100%_*_"
    write_reel(folder, "png8", FRAMES[:3], prefix=prefix)

    for name in (f"{prefix}%06d.png", "r*.png"):
        result = run(folder / name, tmp_path / "out", write={"as": "frames", "overwrite": True})
        assert (result.done + result.already, result.failed) == (1, {})

    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [f"{prefix}{n:06d}.png" for n in (1, 2, 3)]


@pytest.mark.parametrize(("kind", "levels"), [("tiff16", 65535), ("png16", 65535)])
def test_sixteen_bits_stay_sixteen_bits(kind: Kind, levels: int, tmp_path: Path) -> None:
    write_reel(tmp_path / "in", kind, FRAMES)

    run(tmp_path / "in" / f"reel1_*{SUFFIXES[kind]}", tmp_path / "out")

    assert np.array_equal(lumas(tmp_path / "out/reel1.mkv"), np.rint(FRAMES * levels))


def test_logarithmic_codes_of_dpx_stay_as_they_are_and_the_time_code_is_the_films(tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "dpx", FRAMES)

    result = run(tmp_path / "in/reel1_%06d.dpx", tmp_path / "out")

    assert any("logarithmic (Cineon)" in remark for remark in result.remarks)
    film = opened(tmp_path / "out/reel1.mkv")
    assert film.depth == 10
    assert np.array_equal(lumas(film.path), np.rint(95 + FRAMES * 590))
    assert film.metadata[1]["timecode" if "timecode" in film.metadata[1] else "TIMECODE"] == "01:02:00:01"


def test_light_of_openexr_is_seen_as_on_a_display(tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "exr", FRAMES)

    run(tmp_path / "in/reel1_%06d.exr", tmp_path / "out")

    light = np.maximum((FRAMES**2.2).astype(np.float16).astype(np.float64), 0)
    shown = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(lumas(tmp_path / "out/reel1.mkv") - shown * 65535).max() <= 1


def test_a_folder_is_read_as_films_only_when_told(tmp_path: Path) -> None:
    write_reel(tmp_path / "in/a", "png8", FRAMES)
    write_reel(tmp_path / "in/b", "dpx", FRAMES, prefix="shot-")
    write_frame(tmp_path / "in/poster.png", "png8", FRAMES[0])

    result = run(tmp_path / "in", tmp_path / "out", sequence=True)

    assert (result.done, result.failed) == (3, {})
    outputs = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.[mp]*") if path.is_file())
    assert outputs == ["a/reel1.mkv", "b/shot.mkv", "poster.png"]


def test_a_folder_of_frames_is_named_as_what_it_looks_like(tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "png8", scene(30))
    changes = {"read.path": str(tmp_path / "in"), "write.path": str(tmp_path / "out")}
    graph = bwpipe.read_graph(template("pipeline.yaml"), changes)
    beforehand = graph_to_json(graph)["remarks"], [line for line in describe_graph(graph) if "look like" in line]

    result = run(tmp_path / "in", tmp_path / "out", rate=None)

    assert result.done == 30
    hint = next(iter(result.remarks))
    assert hint.startswith("30 files look like one film")
    assert "`read.sequence: true` and `read.rate`" in hint
    assert beforehand == ([hint], [hint])


@pytest.mark.parametrize("what", ["a camera's names", "a gap", "unlike neighbours"])
def test_photographs_are_not_taken_for_a_film(what: str, tmp_path: Path) -> None:
    unlike = np.stack([scene(1, seed=seed)[0] for seed in range(30)])
    frames = unlike if what == "unlike neighbours" else scene(30)
    prefix = "IMG_" if what == "a camera's names" else "walk_"
    write_reel(tmp_path / "in", "png8", frames, prefix=prefix, skip=(7,) if what == "a gap" else ())

    assert not run(tmp_path / "in", tmp_path / "out", rate=None).remarks


def test_dpx_files_of_a_folder_say_how_they_are_read(tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "dpx", FRAMES)

    result = run(tmp_path / "in", tmp_path / "out", rate=None)

    assert len(result.failed) == 12
    assert all("set `sequence: true` and `rate`" in why for why in result.failed.values())


def test_missing_numbers_are_named_and_refused(tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "png8", FRAMES, skip=(4, 5, 9))

    result = run(tmp_path / "in/reel1_%06d.png", tmp_path / "out")

    assert "3 of its numbers are missing: 4 to 5, 9" in next(iter(result.failed.values()))


def test_the_frame_before_a_gap_is_held(tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "png8", FRAMES, skip=(4, 5, 9), first=1)

    result = run(tmp_path / "in/reel1_%06d.png", tmp_path / "out", gaps="hold")

    film = opened(tmp_path / "out/reel1.mkv")
    times = [round(float(time * film.time_base * 24)) for time in film.times]
    assert times == [0, 1, 2, 5, 6, 7, 9, 10, 11]
    assert any("missing: 4 to 5, 9: the frame before each gap is shown until its end" in text for text in result.remarks)


def test_two_files_of_one_number_are_named_and_the_usual_name_is_kept(tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "png8", FRAMES)
    write_frame(tmp_path / "in/reel1_3.png", "png8", FRAMES[11])

    refused = run(tmp_path / "in", tmp_path / "out", sequence=True)
    held = run(tmp_path / "in", tmp_path / "held", sequence=True, gaps="hold")

    assert "1 of its files have a number that another one has: reel1_3.png" in next(iter(refused.failed.values()))
    assert held.done == 1
    assert np.array_equal(lumas(tmp_path / "held/reel1.mkv"), np.rint(FRAMES * 255))


def test_a_frame_that_is_damaged_fails_the_film_by_its_name_or_is_held(tmp_path: Path) -> None:
    paths = write_reel(tmp_path / "in", "dpx", FRAMES)
    paths[7].write_bytes(paths[7].read_bytes()[:3000])

    refused = run(tmp_path / "in/reel1_%06d.dpx", tmp_path / "out")
    held = run(tmp_path / "in/reel1_%06d.dpx", tmp_path / "held", gaps="hold")

    assert "reel1_000008.dpx: is cut short" in next(iter(refused.failed.values()))
    assert opened(tmp_path / "held/reel1.mkv").frames == 11
    assert any("frame 8 can't be read, so that it is left out" in text for text in held.remarks)


def test_a_frame_of_another_size_is_named(tmp_path: Path) -> None:
    paths = write_reel(tmp_path / "in", "png8", FRAMES)
    write_frame(paths[6], "png8", FRAMES[6][:32])

    result = run(tmp_path / "in/reel1_%06d.png", tmp_path / "out")

    assert "reel1_000007.png: is 96x32, but the first frame is 96x64" in next(iter(result.failed.values()))


def test_only_the_segment_of_a_changed_frame_is_done_again(tmp_path: Path) -> None:
    paths = write_reel(tmp_path / "in", "png8", FRAMES)
    paths[11].write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run(tmp_path / "in/reel1_%06d.png", tmp_path / "out").failed

    write_frame(paths[11], "png8", FRAMES[11])
    result = run(tmp_path / "in/reel1_%06d.png", tmp_path / "out")

    assert (result.done, result.failed) == (1, {})
    assert result.meters["read"].items == 2
    assert np.array_equal(lumas(tmp_path / "out/reel1.mkv"), np.rint(FRAMES * 255))


@pytest.mark.parametrize("change", ["a frame's bytes", "one more frame", "a frame's name"])
def test_a_finished_film_is_done_again_when_its_frames_change(change: str, tmp_path: Path) -> None:
    paths = write_reel(tmp_path / "in", "png8", FRAMES)
    pattern = tmp_path / "in/reel1_%06d.png"
    assert run(pattern, tmp_path / "out").done == 1
    assert run(pattern, tmp_path / "out").already == 1

    if change == "a frame's bytes":
        write_frame(paths[3], "png8", FRAMES[0])
    elif change == "one more frame":
        write_frame(paths[3].with_name("reel1_000013.png"), "png8", FRAMES[0])
    else:
        paths[0].rename(paths[0].with_name("reel1_000013.png"))

    assert run(pattern, tmp_path / "out").done == 1


def test_a_moved_reel_is_not_done_again(tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "png8", FRAMES)
    assert run(tmp_path / "in/reel1_%06d.png", tmp_path / "out").done == 1

    (tmp_path / "in").rename(tmp_path / "moved")

    assert run(tmp_path / "moved/reel1_%06d.png", tmp_path / "out").already == 1


def test_a_sound_beside_the_frames_becomes_the_films(tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "png8", FRAMES)
    samples = np.random.default_rng(0).integers(-9000, 9000, 24000).astype("<i2")
    write_wav(tmp_path / "reel1.wav", samples)

    result = run(tmp_path / "in/reel1_%06d.png", tmp_path / "out", sound=str(tmp_path / "reel1.wav"))

    assert not result.failed
    with av.open(str(tmp_path / "out/reel1.mkv")) as film:
        sound = np.concatenate([frame.to_ndarray().ravel() for frame in film.decode(audio=0)])
    assert np.array_equal(sound, samples)
    write_wav(tmp_path / "reel1.wav", samples[::-1])
    assert run(tmp_path / "in/reel1_%06d.png", tmp_path / "out", sound=str(tmp_path / "reel1.wav")).done == 1


def write_wav(path: Path, samples: NDArray[Any]) -> None:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48000, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rate": None}, "set `rate` to its frames per second"),
        ({"sequence": False}, "leave one out"),
        ({"rate": "0"}, "expected frames per second"),
        ({"rate": "24/0"}, "expected frames per second"),
        ({"sound": "missing.wav"}, ""),
    ],
)
def test_options_that_can_not_be_right_are_named(options: dict[str, Any], text: str, tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "png8", FRAMES)

    if "sound" in options:
        result = run(tmp_path / "in/reel1_%06d.png", tmp_path / "out", **options)
        assert "its sound missing.wav can't be read" in next(iter(result.failed.values()))
        return
    with pytest.raises(UsageError, match=text):
        run(tmp_path / "in/reel1_%06d.png", tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("given", "rate"), [(24, Fraction(24)), (23.976, Fraction(24000, 1001)), ("30000/1001", Fraction(30000, 1001)), (16, 16)]
)
def test_rates_are_exact(given: Any, rate: Fraction, tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "png8", FRAMES)

    source = bwpipe.read_graph(graph(tmp_path / "in/reel1_%06d.png", tmp_path / "out", rate=given)).nodes[0].stage
    unit = next(iter(source.units()))  # type: ignore[attr-defined]

    assert unit.media.rate == rate == 1 / unit.media.time_base


@pytest.mark.parametrize("order", ["<", ">"])
def test_dpx_in_colour_is_read_in_either_byte_order(order: str, tmp_path: Path) -> None:
    rgb = np.random.default_rng(3).integers(0, 1024, (12, 16, 3)).astype(np.uint16)
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / f"in/f{number:04d}.dpx").write_bytes(dpx_file(rgb, transfer=6, order=order))

    run(tmp_path / "in/f%04d.dpx", tmp_path / "out")

    film = opened(tmp_path / "out/f.mkv")
    weights = np.array([0.2126, 0.7152, 0.0722])
    assert np.array_equal(lumas(film.path)[1], np.rint(rgb @ weights))
    assert film.pix_fmt == "yuv444p10le"


def test_links_among_the_frames_are_not_read(tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "png8", FRAMES)
    (tmp_path / "in/reel1_000013.png").symlink_to(tmp_path / "in/reel1_000001.png")

    run(tmp_path / "in/reel1_%06d.png", tmp_path / "out")

    assert opened(tmp_path / "out/reel1.mkv").frames == 12


def test_a_pattern_is_one_film_with_sequence_true_too(tmp_path: Path) -> None:
    write_reel(tmp_path / "in", "png8", FRAMES)

    assert run(tmp_path / "in/reel1_%06d.png", tmp_path / "out", sequence=True).done == 1
