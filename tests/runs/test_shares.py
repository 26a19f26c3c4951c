"""Shares of a run: what several processes did apart is the same, byte for byte, as what one does."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from bwpipe import UsageError, run
from bwpipe.core import segments
from bwpipe.core.folder_lock import FolderLock
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.run import RunResult
from bwpipe.engine.shares import Share
from tests.support.made_photos import write_photos
from tests.support.tripping import FRAMES, PICTURES, contents, make_inputs, tripping_graph


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Pictures, a film, and the plug-in."""
    folder = tmp_path_factory.mktemp("shares")
    usual, segments.SHARED_DECODER_FRAMES = segments.SHARED_DECODER_FRAMES, 20
    make_inputs(folder)
    yield folder
    segments.SHARED_DECODER_FRAMES = usual


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, bytes]:
    """What one process writes."""
    assert run(tripping_graph(folder, folder / "whole")).exit_code == 0
    return contents(folder / "whole")


def work_files(out: Path) -> set[str]:
    return {path.name for path in (out / ".bwpipe").iterdir()}


def lines(out: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / ".bwpipe" / name).read_text().splitlines()]


def command(folder: Path, out: Path, *more: str, **changes: Any) -> "subprocess.CompletedProcess[str]":
    """`bwpipe run` in a process of its own."""
    file = out.with_name(f"{out.name}-{'-'.join(more).replace('/', '-')}.json")
    file.write_text(json.dumps(tripping_graph(folder, out, **changes)))
    line = [sys.executable, "-m", "bwpipe", "run", str(file), *more]
    return subprocess.run(line, check=False, capture_output=True, text=True, timeout=300)


def test_shares_in_any_order_and_a_run_that_joins_give_the_bytes_of_one_process(
    folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    done: list[RunResult] = [run(tripping_graph(folder, tmp_path / "out"), share=share) for share in ("2/3", "0/3", "1/3")]
    before = contents(tmp_path / "out")
    joined = run(tripping_graph(folder, tmp_path / "out"))

    assert sum(each.done for each in done) == PICTURES
    assert sum(each.segments for each in done) == 4
    assert sum(each.meters["write"].items for each in done) == PICTURES + FRAMES
    assert set(before) == set(whole) - {"film.mkv"}
    assert (joined.done, joined.already, joined.meters["write"].items) == (1, PICTURES, 0)
    assert contents(tmp_path / "out") == whole
    assert "shares" not in work_files(tmp_path / "out")
    assert run(tripping_graph(folder, tmp_path / "out")).already == PICTURES + 1


def test_shares_at_once_one_of_them_killed_give_the_bytes_of_one_process(
    folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    killed = next(index for index in range(2) if Share(index, 2).has(PurePosixPath("film.mkv"), 45 // 20))
    trips = {killed: 45, 1 - killed: -1}
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda index: command(folder, out, "--share", f"{index}/2", trip=trips[index]), range(2)))

    assert ended[killed].returncode == -signal.SIGKILL, ended[killed].stderr
    assert ended[1 - killed].returncode == 0, ended[1 - killed].stderr
    assert (tmp_path / "out.log").read_text() == "film.mkv\n"
    assert run(tripping_graph(folder, out)).exit_code == 0
    assert contents(out) == whole
    assert not list((out / ".bwpipe").glob("*.part*"))


def test_a_share_that_was_killed_goes_on_and_leaves_the_files_of_others_alone(
    folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    index = next(index for index in range(2) if Share(index, 2).has(PurePosixPath("film.mkv"), 2))
    ended = command(folder, out, "--share", f"{index}/2", trip=45)
    assert ended.returncode == -signal.SIGKILL
    own, other = (out / ".bwpipe" / f"share-{each}-of-2-0123.part.png" for each in (index, 1 - index))
    for path in (own, other):  # whether the killed one left any depends on how far its writer was
        path.write_bytes(b"being written")

    assert run(tripping_graph(folder, out), share=f"{index}/2").exit_code == 0
    assert list((out / ".bwpipe").glob("*.part*")) == [other]
    assert run(tripping_graph(folder, out), share=f"{1 - index}/2").exit_code == 0
    assert run(tripping_graph(folder, out)).done == 1
    assert contents(out) == whole


def test_a_first_pass_is_made_once_for_all_shares(folder: Path, tmp_path: Path) -> None:
    for share in ("0/3", "1/3", "2/3", None):
        assert run(tripping_graph(folder, tmp_path / "out"), share=share).exit_code == 0

    assert (tmp_path / "out.log").read_text() == "film.mkv\n"


def test_what_the_first_share_measured_holds_for_all(folder: Path, tmp_path: Path) -> None:
    results = [run(tripping_graph(folder, tmp_path / "out"), share=share) for share in ("1/2", "0/2", None)]

    found = Ledger(tmp_path / "out").facts["measured"]
    assert lines(tmp_path / "out", "report.jsonl")[-1]["event"] == "ended"
    assert not [text for each in results for text in each.remarks if "differ" in text]
    assert isinstance(found, float)


def test_shares_that_measured_differently_are_named(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(tripping_graph(folder, out), share="0/2").exit_code == 0
    (out / ".bwpipe" / "shares" / "facts.json").unlink()
    assert run(tripping_graph(folder, out), share="1/2").exit_code == 0

    assert [text for text in run(tripping_graph(folder, out)).remarks if "in share 0/2, and" in text and "may differ" in text]


def test_a_whole_run_is_refused_while_a_share_is_at_work_and_the_other_way_round(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(tripping_graph(folder, out), share="0/2").exit_code == 0
    at_work = FolderLock(out / ".bwpipe" / "shares" / "0-of-2" / "lock")
    assert at_work.try_acquire()
    with pytest.raises(UsageError, match=r"share 0/2 is writing into it; wait for its end"):
        run(tripping_graph(folder, out))
    with pytest.raises(UsageError, match=r"share 0/2 is at work in it"):
        run(tripping_graph(folder, out), share="0/2")
    assert run(tripping_graph(folder, out), share="1/2").exit_code == 0
    at_work.release()

    whole = FolderLock(out / ".bwpipe" / "lock")
    assert whole.try_acquire()
    with pytest.raises(UsageError, match="a run without --share is writing into it"):
        run(tripping_graph(folder, out), share="1/2")
    whole.release()
    assert run(tripping_graph(folder, out)).done == 1


@pytest.mark.parametrize("share", ["3/3", "1", "-1/2", "a/b", "0/0", "1/2/3"])
def test_a_share_that_there_is_not_is_refused(folder: Path, tmp_path: Path, share: str) -> None:
    with pytest.raises(UsageError, match=r"expected I/N with I from 0 to N - 1"):
        run(tripping_graph(folder, tmp_path / "out"), share=share)
    assert not (tmp_path / "out").exists()


def test_shares_of_another_number_are_refused_until_the_first_are_taken_over(folder: Path, tmp_path: Path) -> None:
    assert run(tripping_graph(folder, tmp_path / "out"), share="0/2").exit_code == 0

    with pytest.raises(UsageError, match=r"share 0/2 was started there, so --share 1/3 would do its work again; give N as 2"):
        run(tripping_graph(folder, tmp_path / "out"), share="1/3")


def test_shares_are_refused_where_outputs_lie_among_inputs(folder: Path) -> None:
    with pytest.raises(UsageError, match="shares can't write into the folder"):
        run(tripping_graph(folder, folder), set={"write.name": "{stem}-coloured"}, share="0/2")


def test_a_file_that_fails_in_a_share_fails_by_name_there_and_in_the_whole_run(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_photos(tmp_path / "in" / "good", 2)
    (tmp_path / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    source = {"read.path": str(tmp_path / "in")}
    results = [run(tripping_graph(folder, tmp_path / "out"), set=source, share=share) for share in ("0/2", "1/2")]

    assert sorted(each.exit_code for each in results) == [0, 1]
    assert sum(each.done for each in results) == 2
    failed = run(tripping_graph(folder, tmp_path / "out"), set=source)
    assert [path.name for path in failed.failed] == ["bad.png"]
    reports = [lines(tmp_path / "out", f"report-{index}-of-2.jsonl") for index in range(2)]
    assert sum(line["event"] == "failed" for report in reports for line in report) == 1


def test_each_unit_belongs_to_one_share_and_the_rows_of_a_film_are_dealt_out_evenly() -> None:
    shares = [Share(index, 7) for index in range(7)]
    rows = [[share.has(PurePosixPath("reel/one.mp4"), row) for row in range(70)] for share in shares]

    assert [sum(each) for each in rows] == [10] * 7
    assert all(sum(row) == 1 for row in zip(*rows, strict=True))
    pictures = [sum(share.has(PurePosixPath(f"{number}.png")) for number in range(1400)) for share in shares]
    assert sum(pictures) == 1400
    assert 150 < min(pictures) <= max(pictures) < 250


def test_the_ledger_of_a_folder_counts_what_shares_have_done(folder: Path, tmp_path: Path) -> None:
    from bwpipe.graph.graph import read_graph
    from bwpipe.tools.describe import graph_to_json

    for share in ("0/2", "1/2"):
        assert run(tripping_graph(folder, tmp_path / "out"), share=share).exit_code == 0

    assert graph_to_json(read_graph(tripping_graph(folder, tmp_path / "out")))["already"] == PICTURES
