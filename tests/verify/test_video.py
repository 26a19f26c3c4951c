import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition

from bwpipe.core.provenance import NETWORK, Provenance
from bwpipe.verify.verdict import Limits, Verdict
from bwpipe.verify.video import verify_video
from bwpipe.video.encoding import Encoding
from bwpipe.video.file import ColourTags
from tests.cli.test_commands import bwpipe
from tests.support.made_films import FFV1, H264, MKV, UNEVEN, Kind, make_film, opened, rewritten
from tests.support.remuxed import CHAPTERS, TAGS, make_rich_film, recoded, remuxed

LONG = Kind(times=UNEVEN, sound="aac", sound_start=Fraction(123, 1000))
OLD = {"title": "Grandmother", "date": "1931"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="module")
def film(folder: Path) -> Path:
    return make_film(folder / "film.mp4", LONG)


@pytest.fixture(scope="module")
def rich(folder: Path) -> Path:
    return make_rich_film(folder)


def verified(before: Path, after: Path, limits: Limits = Limits()) -> Verdict:  # noqa: B008 (it is frozen)
    return verify_video(opened(before), opened(after), limits)


@pytest.mark.parametrize("encoding", [H264, FFV1], ids=["h264", "ffv1"])
def test_a_film_with_only_colour_added_has_no_differences(film: Path, encoding: Encoding, tmp_path: Path) -> None:
    same = replace(encoding, container="same")
    verdict = verify_video(opened(film), rewritten(opened(film), tmp_path, same), Limits())

    assert verdict.differences == []
    facts = verdict.facts
    assert facts["frames"] == {"input": 29, "output": 29, "lost": 0, "extra": 0, "compared": 29}
    assert facts["times"] == {"exact": 29, "rounded": 0, "moved": 0}
    assert facts["streams"]["kept"] == facts["streams"]["input"] == 1
    assert facts["duration"]["input"] == facts["duration"]["output"] > 0
    assert (facts["luma"]["max"] == 0) == facts["luma"]["lossless"] == (encoding is FFV1)


def test_timestamps_rounded_by_matroska_count_as_equal_and_are_reported(film: Path, tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.ts", Kind(suffix=".ts", time_base=Fraction(1, 90000), times=range(0, 90000, 3003)))

    verdict = verified(source, rewritten(opened(source), tmp_path, FFV1).path)

    assert verdict.differences == []
    assert verdict.facts["times"]["rounded"] > 20
    assert "its timestamps equal the input's rounded to 1 ms, the resolution of Matroska" in verdict.remarks


def test_times_of_plain_sound_that_matroska_rounded_are_counted_in_samples_elsewhere(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mkv", replace(MKV, codec="libx264", sound="pcm_s16le"))

    output = rewritten(opened(film), tmp_path, replace(H264, container="mp4"))

    assert output.path.suffix == ".mp4"
    assert sound_times(film) != sound_times(output.path)
    assert verify_video(opened(film), output, Limits()).differences == []


def sound_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        tick = stream.time_base or Fraction(1)
        return [packet.pts * tick for packet in container.demux(stream) if packet.pts is not None]


def test_a_lost_frame_is_found(film: Path, tmp_path: Path) -> None:
    output = recoded(film, tmp_path / "output.mp4", "ffv1", lambda number, luma: None if number == 7 else luma)

    (difference,) = verified(film, output).differences

    assert difference == "1 of 29 frames are lost, first frame 7 at 0.400313 s"


def test_a_lost_last_frame_is_found(film: Path, tmp_path: Path) -> None:
    output = recoded(film, tmp_path / "output.mp4", "ffv1", lambda number, luma: None if number == 28 else luma)

    assert any(text.startswith("1 of 29 frames are lost, first frame 28") for text in verified(film, output).differences)


@pytest.mark.parametrize(("at", "by"), [(7, 1), (0, -3), (28, 5)])
def test_a_changed_timestamp_is_found(at: int, by: int, tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mkv", replace(MKV, times=range(40, 1200, 40)))

    def later(packet: Any, number: int) -> Any:
        if number == at:
            packet.pts, packet.dts = packet.pts + by, packet.dts + by
        return packet

    output = remuxed(source, tmp_path / "output.mkv", packet=later, tags={}, chapters=[])

    verdict = verified(source, output)

    moved = [text for text in verdict.differences if "another time" in text]
    assert moved == [
        f"1 of 29 frames are shown at another time, first frame {at} at {(40 * at + 40 + by) / 1000:.6f} s"
        f" instead of {(40 * at + 40) / 1000:.6f} s"
    ]
    assert verdict.facts["luma"]["frames"] == 29


def test_a_single_changed_sample_of_lossless_luma_is_found(film: Path, tmp_path: Path) -> None:
    def change(number: int, luma: Any) -> Any:
        luma[40, 17] ^= number == 5
        return luma

    output = recoded(film, tmp_path / "output.mp4", "ffv1", change)

    verdict = verified(film, output)

    (difference,) = verdict.differences
    assert difference.startswith("the luma of 1 frames differs: first in frame 5 at (17, 40), ")
    assert verdict.facts["luma"]["max"] == 1


@pytest.mark.parametrize("place", [(0, 0), (16, 80), (48, 80)])
def test_a_block_brightened_by_8_is_found_in_lossy_luma(film: Path, place: tuple[int, int], tmp_path: Path) -> None:
    down, across = place

    def change(number: int, luma: Any) -> Any:
        if number == 9:
            luma[down : down + 16, across : across + 16] += 8
        return luma

    output = recoded(film, tmp_path / "output.mp4", "libx264", change)

    verdict = verified(film, output)

    (difference,) = verdict.differences
    assert f"worst in frame 9: the one at ({across}, {down}) is " in difference
    assert 6 < verdict.facts["luma"]["worst_block"]["brighter"] < 10
    assert verified(film, output, Limits(block=10)).differences == []
    assert verified(film, output, Limits(block=10, psnr=60)).differences != []


def test_exact_tolerates_no_luma_difference_in_lossy_video(film: Path, tmp_path: Path) -> None:
    output = recoded(film, tmp_path / "output.mp4", "libx264")

    assert verified(film, output).differences == []
    assert "differs: first in frame 0" in verified(film, output, Limits(exact=True)).differences[0]


def line(**stage: Any) -> str:
    return Provenance("0.1.0", ({"stage": "read"}, {"stage": "x", NETWORK: "tiny"}, stage)).line()


def test_luma_changed_on_request_is_not_a_difference(film: Path, tmp_path: Path) -> None:
    changed = recoded(
        film, tmp_path / "changed.mp4", "ffv1", lambda number, luma: luma // 2, comment=line(stage="s", luma="restore")
    )
    unasked = recoded(film, tmp_path / "unasked.mp4", "ffv1", lambda number, luma: luma // 2, comment=line(stage="s"))

    assert verified(film, changed).differences == []
    assert "luma changed on request (restore)" in verified(film, changed).remarks
    assert len(verified(film, unasked).differences) == 1


def test_deinterlacing_a_progressive_film_excuses_no_difference(film: Path, tmp_path: Path) -> None:
    comment = line(stage="read", deinterlace="bwdif")
    output = recoded(film, tmp_path / "changed.mp4", "ffv1", lambda number, luma: luma // 2, comment=comment)

    assert len(verified(film, output).differences) == 1


def test_only_the_first_frames_of_a_trial_are_compared(film: Path, tmp_path: Path) -> None:
    comment = Provenance("0.1.0", ({"stage": "read", "frames": 12},)).line()
    output = recoded(film, tmp_path / "output.mp4", "ffv1", comment=comment, count=12)

    verdict = verified(film, output)

    assert verdict.differences == []
    assert verdict.facts["frames"]["input"] == 12
    assert verdict.facts["streams"]["kept"] == 1


def test_a_copy_of_all_streams_has_no_differences(rich: Path, tmp_path: Path) -> None:
    verdict = verified(rich, remuxed(rich, tmp_path / "output.mkv"))

    assert verdict.differences == []
    assert verdict.facts["streams"]["kept"] == 4
    assert verdict.facts["chapters"] == {"input": 2, "output": 2}


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "a subtitle": ({"keep": lambda stream: stream.index != 3}, "subtitle track 3 (srt, fra) is lost"),
    "audio": ({"keep": lambda stream: stream.index != 1}, "audio track 1 (aac, fra) is lost"),
    "an attachment": ({"keep": lambda stream: stream.type != "attachment"}, "attachment track 4 (font.ttf) is lost"),
    "a tag": ({"tags": {**TAGS, "title": "Grandma"}}, "its tag title is 'Grandma' instead of 'Grandmother'"),
    "a lost tag": ({"tags": {"title": "Grandmother", "comment": TAGS["comment"]}}, "its tag date is lost"),
    "a language": ({"languages": {2: "deu"}}, "subtitle track 2 (srt, eng): its language is deu instead of eng"),
    "a disposition": (
        {"dispositions": {1: Disposition.default}},
        "audio track 1 (aac, fra): its dispositions are default instead of default, dub",
    ),
    "how long a subtitle is shown": (
        {"longer": {3: 40}},
        "subtitle track 3 (srt, fra): 2 of 2 packets have another duration, first packet 0 with 0.340000 s"
        " instead of 0.300000 s",
    ),
    "a chapter": ({"chapters": CHAPTERS[:1]}, "it has 1 chapters instead of 2"),
    "a chapter's title": (
        {"chapters": [CHAPTERS[0], {**CHAPTERS[1], "metadata": {"title": "2"}}]},
        "chapter 2 is called '2' instead of 'Two'",
    ),
    "a chapter's start": (
        {"chapters": [CHAPTERS[0], {**CHAPTERS[1], "start": 520}]},
        "chapter 2 starts at 0.520 s instead of 0.500 s",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_loss_or_change_is_found(name: str, rich: Path, tmp_path: Path) -> None:
    change, difference = CHANGES[name]

    output = remuxed(rich, tmp_path / "output.mkv", **change)

    assert verified(rich, output).differences == [difference]


def test_a_changed_audio_packet_is_found(film: Path, tmp_path: Path) -> None:
    def copy(name: str, change: Callable[[bytearray], None]) -> Path:
        output = remuxed(film, tmp_path / name, tags={}, chapters=[])
        content = bytearray(output.read_bytes())
        change(content)
        output.write_bytes(content)
        return output

    from bwpipe.video.file import open_container

    with open_container(film) as container:
        payload = [bytes(packet) for packet in container.demux(audio=0) if packet.size][9]

    def damage(content: bytearray) -> None:
        content[content.index(payload) + 20] ^= 1

    assert verified(film, copy("same.mp4", lambda content: None)).differences == []
    (difference,) = verified(film, copy("damaged.mp4", damage)).differences
    assert difference.startswith("audio track 1 (aac, fra): packet 9 of ")


@pytest.mark.parametrize(
    ("given", "output", "count"),
    [
        (ColourTags(0, 2, 2, 2), ColourTags(1, 6, 6, 6), 0),
        (ColourTags(0, 2, 2, 2), ColourTags(0, 2, 2, 2), 0),
        (ColourTags(0, 2, 2, 2), ColourTags(1, 1, 1, 1), 3),
        (ColourTags(1, 6, 6, 6), ColourTags(1, 6, 6, 1), 1),
        (ColourTags(1, 6, 6, 6), ColourTags(0, 2, 2, 2), 4),
        (ColourTags(2, 5, 5, 6), ColourTags(1, 5, 5, 6), 1),
    ],
)
def test_colour_tags_are_compared_except_assumed_ones(
    given: ColourTags, output: ColourTags, count: int, tmp_path: Path
) -> None:
    one, other = (
        make_film(tmp_path / f"{name}.mkv", replace(MKV, tags=tags)) for name, tags in (("given", given), ("output", output))
    )

    assert len([text for text in verified(one, other).differences if "colour" in text]) == count


SCREEN = "mastering-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"


def hdr(path: Path, params: str, **kind: Any) -> Path:
    return make_film(path, Kind(pix_fmt="yuv420p10le", times=range(0, 5 * 512, 512), options={"x264-params": params}, **kind))


@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
def test_hdr_metadata_is_kept_and_compared(codec: str, tmp_path: Path) -> None:
    source = hdr(tmp_path / "hdr.mp4", f"{SCREEN}:cll=1000,400")
    encoding = Encoding(codec=codec, preset={"av1": "12"}.get(codec, "ultrafast"))

    verdict = verify_video(opened(source), rewritten(opened(source), tmp_path, encoding), Limits())

    assert verdict.differences == []
    assert verdict.facts["light"]["content"] == [[1000, 400], [1000, 400]]
    assert verdict.facts["light"]["luminance"][0] == [0.0001, 1000]
    assert verdict.facts["light"]["primaries"][0][:2] == [0.68, 0.32]


@pytest.mark.parametrize(
    ("params", "differences"),
    [
        (f"{SCREEN}:cll=1000,300", ["its content light level is 1000, 300 instead of 1000, 400"]),
        (SCREEN, ["its content light level is lost"]),
        (f"{SCREEN.replace('34500', '34502')}:cll=1000,400", ["the chromaticity of its mastering display is "]),
        (
            f"{SCREEN.replace(',1)', ',50)')}:cll=1000,400",
            ["the luminance of its mastering display is 0.005, 1000 instead of 0"],
        ),
    ],
)
def test_changed_hdr_metadata_is_found(params: str, differences: list[str], tmp_path: Path) -> None:
    source, output = (
        hdr(tmp_path / name, text) for name, text in (("one.mp4", f"{SCREEN}:cll=1000,400"), ("other.mp4", params))
    )

    found = verified(source, output).differences

    assert [text[: len(expected)] for text, expected in zip(found, differences, strict=True)] == differences


def test_a_film_whose_sound_begins_before_zero_is_later_in_matroska_as_a_whole(tmp_path: Path) -> None:
    film = opened(make_film(tmp_path / "film.mp4", Kind(times=range(0, 12 * 512, 512), sound="aac")))
    warnings: list[str] = []

    output = rewritten(film, tmp_path, FFV1, warn=warnings.append)
    verdict = verify_video(film, output, Limits())

    assert output.path.suffix == ".mkv"
    assert "all of it is 0.021 s later: its sound begins before zero, and Matroska has no such times" in warnings
    assert verdict.differences == []
    assert "all of it is 0.021 s later, since Matroska can't hold times before zero" in verdict.remarks


def test_hdr_metadata_that_the_output_can_not_store_is_reported(tmp_path: Path) -> None:
    source = hdr(tmp_path / "hdr.mp4", f"{SCREEN}:cll=1000,400")
    warnings: list[str] = []

    same = replace(FFV1, container="same")
    verdict = verify_video(opened(source), rewritten(opened(source), tmp_path, same, warn=warnings.append), Limits())

    assert verdict.differences == []
    assert "its content light level is lost: ffv1 can't store it" in verdict.remarks
    assert warnings == [
        "its mastering display metadata is lost: ffv1 can't store it",
        "its content light level is lost: ffv1 can't store it",
    ]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"size": (96, 48)}, "its size is 96x48 instead of 96x64"),
        ({"aspect": Fraction(16, 11)}, "its sample aspect is 16/11 instead of 1"),
        ({"turn": (-90, False)}, "its rotation is EXIF orientation 6 "),
    ],
    ids=str,
)
def test_changed_size_aspect_or_rotation_is_found(change: dict[str, Any], word: str, tmp_path: Path) -> None:
    kind = Kind()
    one, other = make_film(tmp_path / "one.mp4", kind), make_film(tmp_path / "other.mp4", replace(kind, **change))

    assert any(text.startswith(word) for text in verified(one, other).differences)


def test_fewer_bits_are_found_and_so_are_more_bits_that_are_not_just_shifted(tmp_path: Path) -> None:
    limited = ColourTags(1, 6, 6, 6)
    one, ten, full = (
        make_film(tmp_path / f"{form}.{tags.range}.mkv", replace(MKV, pix_fmt=form, tags=tags))
        for form, tags in (("yuv420p", limited), ("yuv420p10le", limited), ("yuv420p10le", ColourTags(2, 6, 6, 6)))
    )

    assert verified(one, ten).differences == []
    assert "its 8-bit samples are stored in 10 bits, with zeros in the low bits" in verified(one, ten).remarks
    assert "its depth is 8 bits instead of 10" in verified(ten, one).differences
    assert "its depth is 10 bits instead of 8" in verified(one, full).differences
    changed = recoded(one, tmp_path / "changed.mkv", "ffv1", lambda number, luma: luma + (number == 3))
    assert verified(changed, ten).differences[0].startswith("the luma of 1 frames differs: first in frame 3 at (0, 0), ")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_truncated_output_is_found(film: Path, suffix: str, tmp_path: Path) -> None:
    content = recoded(film, tmp_path / f"output{suffix}", "ffv1").read_bytes()
    short = tmp_path / f"short{suffix}"
    short.write_bytes(content[: len(content) * 6 // 10])

    if suffix == ".mp4":  # its index is at the end
        assert bwpipe("verify", str(film), str(short), code=2).startswith(f"error: {short}: ")
    else:
        differences = verified(film, short).differences
        assert any("frames are lost, first frame 17" in text for text in differences)
        assert any(text.startswith("the output: it is cut short") for text in differences)


def test_a_truncated_input_is_compared_up_to_its_end(tmp_path: Path) -> None:
    whole = make_film(tmp_path / "whole.mkv", replace(MKV, codec="libx264")).read_bytes()
    short = tmp_path / "short.mkv"
    short.write_bytes(whole[: len(whole) * 6 // 10])

    verdict = verify_video(opened(short), rewritten(opened(short), tmp_path, FFV1), Limits())

    assert [text for text in verdict.differences if "ends at" not in text] == []
    assert any("cut short" in text for text in verdict.remarks)


def test_the_command_reports_as_text_and_json(film: Path, tmp_path: Path) -> None:
    output = recoded(film, tmp_path / "output.mp4", "libx264", comment=line(stage="write"))

    lines = bwpipe("verify", str(film), str(output)).splitlines()
    report = json.loads(bwpipe("verify", str(film), str(output), "--json", "-"))

    assert lines[0].startswith(f"{output}: 29 of 29 frames, 29 timestamps exact, luma difference ")
    assert lines[0].endswith(", 1 of 1 other streams: only colour was added")
    assert lines[-1] == "1 file with only colour added"
    (file,) = report["files"]
    assert file["same"]
    assert file["frames"]["compared"] == 29
    assert file["provenance"]["stages"][1] == {"stage": "x", "network": "tiny"}


def test_the_command_gives_exit_code_1_and_a_line_for_each_difference(film: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from bwpipe.cli.main import app

    output = recoded(film, tmp_path / "output.mp4", "ffv1", lambda number, luma: None if number == 7 else luma)

    result = CliRunner().invoke(app, ["verify", str(film), str(output), "--quiet", "--json", str(tmp_path / "report.json")])

    assert result.exit_code == 1
    assert result.stdout == f"{output}: difference: 1 of 29 frames are lost, first frame 7 at 0.400313 s\n"
    assert json.loads((tmp_path / "report.json").read_text())["different"] == 1


def test_memory_does_not_grow_with_the_length_of_the_film(tmp_path: Path) -> None:
    import tracemalloc

    peaks = []
    for count in (60, 600):
        source = make_film(tmp_path / f"{count}.mkv", replace(MKV, codec="libx264", times=range(0, 40 * count, 40)))
        films = opened(source), opened(source)
        tracemalloc.start()
        verify_video(*films, Limits())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < 1.2 * peaks[0] + 100_000
