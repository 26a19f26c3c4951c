"""Whole runs of small stages: what is done, done again, kept, refused, and told."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from bwpipe.engine.run import RunResult, run
from bwpipe.errors import RunAborted, TooManyErrors, UsageError

PLUGIN = '''
"""Stages on text files, each of which counts as a picture; the test's own, to see what the engine does."""

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from time import sleep
from typing import Any

import numpy as np
from pydantic import PrivateAttr

from bwpipe import (
    Broken, End, Frame, Gather, Map, Media, MediaError, NoEffect, RunContext, Sink, Source, Stage, Unit, UsageError, stage,
)
from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.inputs import find_files
from bwpipe.core.fingerprint import Fingerprint


@stage("read_text")
class ReadText(Source):
    """Reads each text file as a frame of one number."""

    path: NoEffect[str]

    def units(self) -> Iterator[Unit | Broken]:
        for path, name in find_files(self.path):
            if path.read_text() == "no header":
                yield Broken(path, name, "it has no header")
            else:
                yield Unit(Media(path=path, name=name, width=1, height=1))

    def read(self, unit: Unit, context: int) -> Iterator[Frame]:
        text = unit.path.read_text()
        if not text.isdecimal():
            raise MediaError("it is no number")
        yield Frame(np.array([[int(text)]], np.uint8), unit)


@stage("add")
class Add(Map):
    """Adds a number."""

    by: int = 1
    wait: NoEffect[float] = 0
    fail: NoEffect[str] = ""

    def setup(self, run: RunContext) -> None:
        if self.fail == "setup":
            raise UsageError("add.fail: there is no such device")
        run.remember_fact("add.chosen", lambda: self.by)

    def apply(self, frame: Frame) -> Frame:
        sleep(self.wait)
        if self.fail == "memory":
            raise MemoryError
        return replace(frame, luma=frame.luma + np.uint8(self.by))


@stage("write_text")
class WriteText(Sink):
    """Writes each number."""

    path: NoEffect[Path]
    full: NoEffect[bool] = False
    flat: bool = False

    @property
    def folder(self) -> Path:
        return self.path.absolute()

    def target(self, unit: Unit) -> Path:
        if unit.name.suffix == ".odd":
            raise MediaError("nothing can hold it")
        return self.folder / (unit.name.name if self.flat else unit.name)

    def open(self, unit: Unit) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "no space")

    def write(self, frame: Frame) -> None:
        draft = AtomicFile(self.target(frame.unit), self.folder)
        draft.path.write_text(str(frame.luma.item()))
        self._drafts[frame.unit] = draft

    _drafts: dict[Unit, AtomicFile] = {}

    def commit(self, unit: Unit) -> AtomicFile:
        return self._drafts.pop(unit)

    def abandon(self, unit: Unit) -> None:
        if draft := self._drafts.pop(unit, None):
            draft.discard()


@stage("odd")
class Odd(Stage):
    """Leaves even numbers out."""

    _run: RunContext = PrivateAttr()

    def setup(self, run: RunContext) -> None:
        self._run = run

    def stream(self, items: Iterator[Frame | End]) -> Iterator[Frame | End]:
        for item in items:
            if isinstance(item, End) or item.luma.item() % 2:
                yield item
            else:
                self._run.exclude(item.unit.media, "even")


@stage("total")
class Total(Gather):
    """Adds all numbers up, and keeps the sum in a file."""

    path: NoEffect[Path]
    factor: int = 1

    _asked: str = PrivateAttr()

    def ready(self, units: Mapping[Unit, Fingerprint | None], recipe: Sequence[Mapping[str, Any]]) -> int | None:
        if self.factor == 0:
            raise UsageError("total.factor: it is 0")
        self._asked = json.dumps([[(str(unit.name), stamp) for unit, stamp in units.items()], recipe])
        kept = json.loads(self.path.read_text()) if self.path.exists() else {}
        return kept.get(self._asked)

    def gather(self, frames: Iterator[Frame]) -> int:
        made = self.factor * sum(int(frame.luma.item()) for frame in frames)
        self.path.write_text(json.dumps({self._asked: made}))
        return made


@stage("note")
class Note(Stage):
    """Writes down the sum and what the run is like."""

    path: NoEffect[Path]

    _run: RunContext = PrivateAttr()

    def setup(self, run: RunContext) -> None:
        self._run = run

    def stream(self, items: Iterator[int]) -> Iterator[str]:
        for item in items:
            run = self._run
            self.path.write_text(json.dumps([item, run.name, run.restart, [str(folder) for folder in run.plugins]]))
            yield "noted"
'''


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("session_stages")
    (folder / "text_stages.py").write_text(PLUGIN)
    return folder


class Place:
    """A folder of five numbers, and runs that add to them."""

    def __init__(self, root: Path, plugin: Path) -> None:
        self.inputs, self.out, self.plugin = root / "in", root / "out", plugin
        (self.inputs / "deep").mkdir(parents=True)
        for i in range(5):
            (self.inputs / "deep" / f"{i}.txt").write_text(str(i))

    def graph(self, **top: Any) -> dict[str, Any]:
        stages = [
            {"use": "read_text", "path": str(self.inputs)},
            {"use": "add"},
            {"use": "write_text", "path": str(self.out)},
        ]
        return {"plugins": [str(self.plugin)], "stages": stages, **top}

    def run(self, top: dict[str, Any] | None = None, **options: Any) -> RunResult:
        return run(self.graph(**(top or {})), set={key.replace("__", "."): value for key, value in options.items()})

    def made(self) -> dict[str, str]:
        files = [path for path in sorted(self.out.rglob("*")) if path.is_file() and ".bwpipe" not in path.parts]
        return {str(path.relative_to(self.out)): path.read_text() for path in files}

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / ".bwpipe" / "report.jsonl").read_text().splitlines()]


@pytest.fixture
def place(tmp_path: Path, plugin: Path) -> Place:
    return Place(tmp_path, plugin)


def test_a_run_mirrors_the_tree_and_tells_what_it_did(place: Place) -> None:
    outcome = place.run()

    assert place.made() == {f"deep/{i}.txt": str(i + 1) for i in range(5)}
    assert (outcome.done, outcome.exit_code) == (5, 0)
    assert [meter.items for meter in outcome.meters.values()] == [5, 5, 5]
    assert [line["event"] for line in place.events()] == ["done"] * 5 + ["ended"]
    table = str(outcome).splitlines()
    assert [line.split()[0] for line in table] == ["stage", "read_text", "add", "write_text", "5"]


def test_the_same_run_again_does_nothing(place: Place) -> None:
    place.run()
    before = {path: path.stat().st_mtime_ns for path in place.out.rglob("*.txt")}

    outcome = place.run()

    assert (outcome.done, outcome.already, outcome.exit_code) == (0, 5, 0)
    assert {path: path.stat().st_mtime_ns for path in place.out.rglob("*.txt")} == before


def test_a_changed_recipe_does_all_again_and_a_harmless_option_nothing(place: Place) -> None:
    place.run()

    assert place.run(add__wait=0.001, add__workers=2, queue=1).done == 0
    assert place.run(add__by=2).done == 5
    assert place.made()["deep/3.txt"] == "5"


def test_a_changed_input_and_a_lost_output_are_done_again(place: Place) -> None:
    place.run()
    (place.inputs / "deep" / "1.txt").write_text("41")
    (place.out / "deep" / "2.txt").unlink()

    assert place.run().done == 2
    assert place.made()["deep/1.txt"] == "42"
    assert place.made()["deep/2.txt"] == "3"


def test_what_bwpipe_did_not_write_is_kept_unless_asked(place: Place) -> None:
    (place.out / "deep").mkdir(parents=True)
    (place.out / "deep" / "1.txt").write_text("mine")

    outcome = place.run()
    assert (outcome.done, outcome.kept) == (4, [place.out / "deep" / "1.txt"])
    assert place.made()["deep/1.txt"] == "mine"

    assert place.run(write_text__overwrite=True).done == 1
    assert place.made()["deep/1.txt"] == "2"


def test_an_output_that_was_retouched_by_hand_is_kept(place: Place) -> None:
    place.run()
    (place.out / "deep" / "1.txt").write_text("retouched")

    assert place.run(add__by=7).done == 4
    assert place.made()["deep/1.txt"] == "retouched"


def test_a_file_that_fails_is_named_and_the_rest_goes_on(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    (place.inputs / "deep" / "1.txt").write_text("one")
    (place.inputs / "deep" / "3.txt").write_text("no header")

    outcome = place.run()

    assert (outcome.done, outcome.exit_code) == (3, 1)
    bad, headless = place.inputs / "deep" / "1.txt", place.inputs / "deep" / "3.txt"
    assert outcome.failed == {bad: "it is no number", headless: "it has no header"}
    assert f"error: {bad}: it is no number\n" in capfd.readouterr().err
    assert {line["text"] for line in place.events() if line["event"] == "failed"} == {"it is no number", "it has no header"}
    assert sorted(place.made()) == ["deep/0.txt", "deep/2.txt", "deep/4.txt"]


def test_a_file_that_can_not_be_written_as_asked_fails_and_the_rest_goes_on(place: Place) -> None:
    (place.inputs / "a.odd").write_text("1")

    outcome = place.run()

    assert (outcome.done, outcome.failed) == (5, {place.inputs / "a.odd": "nothing can hold it"})


def test_control_characters_in_a_name_are_shown_as_escapes(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    (place.inputs / "a\x1b[31m\nb.txt").write_text("one")

    place.run()

    assert r"in/a\x1b[31m\nb.txt: it is no number" in capfd.readouterr().err


def test_a_name_that_is_no_utf8_is_done_like_any_other(place: Place) -> None:
    (place.inputs / os.fsdecode(b"\xff.txt")).write_text("7")

    assert place.run().done == 6
    assert place.run().done == 0


@pytest.mark.parametrize("top", [{"on_error": "stop"}, {"max_errors": 0}])
def test_the_run_stops_where_it_is_told_to(place: Place, top: dict[str, Any]) -> None:
    (place.inputs / "deep" / "0.txt").write_text("one")

    with pytest.raises(TooManyErrors, match=r"stopped after 1 failed: .*0\.txt was the last"):
        place.run(top)

    assert TooManyErrors.exit_code == 1


def test_outputs_inside_the_inputs_are_never_read(place: Place) -> None:
    place.out = place.inputs / "out"
    place.run()

    outcome = place.run(add__by=2)

    assert (outcome.done, sorted(place.made())) == (5, [f"deep/{i}.txt" for i in range(5)])


def refused(place: Place, words: str, **options: Any) -> None:
    """The run is refused in those words, and nothing is written."""
    before = sorted(place.inputs.parent.rglob("*"))
    with pytest.raises(UsageError, match=words):
        place.run(**options)
    assert sorted(place.inputs.parent.rglob("*")) == before


def test_an_output_that_would_be_an_input_is_refused(place: Place) -> None:
    refused(place, "would be written over the input", write_text__path=str(place.inputs))


def test_two_inputs_that_would_become_one_file_are_refused_by_both_names(place: Place) -> None:
    (place.inputs / "other").mkdir()
    (place.inputs / "other" / "1.txt").write_text("1")

    refused(place, r"in/other/1\.txt and .*in/deep/1\.txt would both become .*out/1\.txt", write_text__flat=True)


def test_nothing_to_read_is_refused(place: Place) -> None:
    (place.inputs / "empty").mkdir()

    refused(place, "there is nothing to read; give the stage another `path`", read_text__path=str(place.inputs / "empty"))
    refused(place, "there is no file or folder", read_text__path=str(place.inputs / "gone"))


def test_a_stage_that_can_not_be_set_up_is_refused_before_anything_is_written(place: Place) -> None:
    refused(place, "there is no such device", add__fail="setup")


def test_what_no_file_is_to_blame_for_aborts_the_run(place: Place) -> None:
    with pytest.raises(RunAborted, match="the disk is full"):
        place.run(write_text__full=True)

    assert place.made() == {}
    assert place.events()[-1]["event"] == "stopped"
    assert place.run().done == 5


def test_a_picture_too_large_for_the_memory_fails_and_the_rest_goes_on(place: Place) -> None:
    outcome = place.run(add__fail="memory")

    assert set(outcome.failed.values()) == {"there is not enough memory for a picture of 1x1 pixels"}


def test_an_output_folder_that_is_removed_ends_the_run_and_is_not_made_again(place: Place) -> None:
    process = started(place, 0.5)
    wait_for(process, place.made)
    shutil.rmtree(place.out)

    _, err = process.communicate(timeout=20)

    assert process.returncode == 3
    assert "the output folder is gone" in err or "ledger" in err
    assert not place.out.exists()


def test_an_input_that_changes_while_it_is_worked_on_fails_and_is_done_by_the_next_run(place: Place) -> None:
    process = started(place, 0.5)
    wait_for(process, place.made)
    (place.inputs / "deep" / "4.txt").write_text("99")

    _, err = process.communicate(timeout=20)

    assert process.returncode == 1
    assert "4.txt: it changed while it was read; run again" in err
    assert place.run().done == 1
    assert place.made()["deep/4.txt"] == "100"


def test_no_output_goes_over_an_input_or_out_of_its_folder_through_a_link(place: Place) -> None:
    link = place.inputs.parent / "link"
    link.symlink_to(place.inputs)
    options: dict[str, Any] = {"write_text__overwrite": True}
    refused(place, "would be written over the input", write_text__path=str(link), **options)
    refused(place, "would be written over the input", write_text__path=f"{place.inputs}/deep/..", **options)

    place.out.mkdir()
    (place.out / "deep").symlink_to(place.inputs / "deep")
    refused(place, "is a link out of", **options)


def test_a_journal_that_is_a_link_is_replaced_not_followed(place: Place) -> None:
    place.run()
    precious = place.inputs.parent / "precious"
    precious.write_text("mine")
    (place.out / ".bwpipe" / "report.jsonl").unlink()
    (place.out / ".bwpipe" / "report.jsonl").symlink_to(precious)

    place.run(add__by=2)

    assert precious.read_text() == "mine"


def test_two_sinks_that_would_write_the_same_files_are_refused(place: Place) -> None:
    graph = place.graph()
    graph["stages"].append({"use": "write_text", "id": "again", "from": "add", "path": str(place.out)})

    with pytest.raises(UsageError, match="write_text and again would both write"):
        run(graph)


def test_a_stage_that_does_not_end_is_left_behind_soon_after_a_signal(place: Place) -> None:
    process = started(place, 60)
    wait_for(process, (place.out / ".bwpipe").exists)
    process.send_signal(signal.SIGTERM)

    process.communicate(timeout=12)

    assert process.returncode == 143


def test_a_run_whose_output_nobody_reads_ends_as_it_should(place: Place) -> None:
    graph = place.inputs.parent / "graph.yaml"
    graph.write_text(json.dumps(place.graph()))
    command = f"{sys.executable} -m bwpipe run {graph}"

    for plumbing in ("> /dev/full", "2>&-", "| true; exit ${PIPESTATUS[0]}"):
        assert (
            subprocess.run(["bash", "-c", f"{command} {plumbing}"], timeout=60, capture_output=True, check=False).returncode
            == 0
        ), plumbing
    assert len(place.made()) == 5


def test_branches_write_each_their_own(place: Place) -> None:
    graph = place.graph()
    graph["stages"] += [
        {"use": "add", "id": "more", "from": "add", "by": 10},
        {"use": "write_text", "id": "other", "path": str(place.out) + "-other"},
    ]

    assert run(graph).done == 10
    assert (Path(str(place.out) + "-other") / "deep" / "1.txt").read_text() == "12"
    (place.out / "deep" / "1.txt").unlink()
    assert run(graph).done == 1


def started(place: Place, wait: float) -> "subprocess.Popen[str]":
    """The run as a command, slowed down so that it can be disturbed."""
    graph = place.inputs.parent / "graph.yaml"
    graph.write_text(json.dumps(place.graph()))
    command = [sys.executable, "-m", "bwpipe", "run", str(graph), "--set", f"add.wait={wait}"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for(process: "subprocess.Popen[str]", condition: Callable[[], object]) -> None:
    """Wait until the condition holds while the process runs; asleep in between, or the test may keep it from running."""
    while not condition():
        assert process.poll() is None, process.communicate()
        sleep(0.02)


def disturbed(place: Place, number: signal.Signals) -> int:
    """Send a signal to a run as soon as it has written a file, and give its exit code."""
    process = started(place, 0.5)
    wait_for(process, place.made)
    process.send_signal(number)
    process.communicate(timeout=10)
    return process.returncode


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_run_that_was_stopped_goes_on_to_the_same_files(place: Place, number: signal.Signals, code: int) -> None:
    assert disturbed(place, number) == code
    assert 0 < len(place.made()) < 5

    outcome = place.run()

    assert outcome.done + outcome.already == 5
    assert outcome.already > 0
    assert place.made() == {f"deep/{i}.txt": str(i + 1) for i in range(5)}
    assert list((place.out / ".bwpipe").glob("*.part*")) == []


def test_a_second_run_into_the_same_folder_is_refused(place: Place) -> None:
    process = started(place, 0.5)
    wait_for(process, place.made)

    with pytest.raises(UsageError, match="another run is writing into it"):
        place.run()

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)


def test_the_command_shows_a_table_and_ends_with_the_right_code(place: Place) -> None:
    (place.inputs / "deep" / "1.txt").write_text("one")
    process = started(place, 0)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert out.splitlines()[0].split() == ["stage", "items", "busy", "s", "share"]
    assert out.splitlines()[-1].startswith("4 done, 1 failed in ")
    assert err == f"error: {place.inputs / 'deep' / '1.txt'}: it is no number\n"


def test_threads_and_files_are_given_back(place: Place) -> None:
    import threading

    place.run()
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (Linux's own count)
    place.run(add__by=3)
    with pytest.raises(RunAborted):
        place.run(write_text__full=True, add__by=4)

    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, files)  # noqa: PTH208


class Sums(Place):
    """A graph that adds all numbers up; what came of it is in the file `note`."""

    def graph(self, **top: Any) -> dict[str, Any]:
        graph = super().graph(**top)
        root = self.inputs.parent
        graph["stages"][2:] = [{"use": "total", "path": str(root / "kept")}, {"use": "note", "path": str(root / "note")}]
        return graph

    def noted(self) -> Any:
        return json.loads((self.inputs.parent / "note").read_text())

    def items(self, **options: Any) -> list[int]:
        """How many items each stage made."""
        return [meter.items for meter in self.run(**options).meters.values()]


@pytest.fixture
def sums(tmp_path: Path, plugin: Path) -> Sums:
    return Sums(tmp_path, plugin)


def test_what_only_feeds_a_gathering_stage_that_is_ready_does_not_start(sums: Sums) -> None:
    assert sums.items() == [5, 5, 1, 1]
    assert sums.noted()[0] == 15

    outcome = sums.run()

    assert [meter.items for meter in outcome.meters.values()] == [0, 0, 1, 1]
    assert (outcome.done, outcome.already, sums.noted()[0]) == (0, 5, 15)
    assert str(outcome).splitlines()[-1].startswith("0 done, 5 done already in ")


def test_a_gathering_stage_is_asked_of_the_recipes_and_stamps_of_what_it_gathers(sums: Sums) -> None:
    sums.run()

    assert sums.items(add__wait=0.001, queue=1) == [0, 0, 1, 1]
    assert sums.items(add__by=2) == [5, 5, 1, 1]
    assert sums.items(add__by=2, total__factor=3) == [5, 5, 1, 1]
    assert sums.noted()[0] == 60
    (sums.inputs / "deep" / "1.txt").write_text("41")
    assert sums.items(add__by=2, total__factor=3) == [5, 5, 1, 1]
    assert sums.noted()[0] == 180


def test_a_branch_that_is_not_ready_reads_all_beside_one_that_is(sums: Sums) -> None:
    sums.run()
    graph = sums.graph()
    graph["stages"] += [
        {"use": "add", "id": "more", "from": "read_text", "by": 10},
        {"use": "write_text", "path": str(sums.out)},
    ]

    outcome = run(graph)

    assert [meter.items for meter in outcome.meters.values()] == [5, 0, 1, 1, 5, 5]
    assert (outcome.done, sums.noted()[0]) == (5, 15)
    assert sums.made()["deep/3.txt"] == "13"


def test_what_a_gathering_stage_refuses_when_it_is_asked_is_refused_with_its_place(sums: Sums) -> None:
    with pytest.raises(UsageError, match=r"stages\[2\]: total.factor: it is 0"):
        sums.run(total__factor=0)


def test_a_file_that_fails_by_its_header_fails_though_nothing_is_read(sums: Sums) -> None:
    (sums.inputs / "deep" / "3.txt").write_text("no header")
    sums.run()

    outcome = sums.run()

    assert (outcome.already, outcome.exit_code, list(outcome.failed)) == (4, 1, [sums.inputs / "deep" / "3.txt"])


def test_stages_know_the_graphs_name_its_plugins_and_whether_to_start_over(sums: Sums, monkeypatch: pytest.MonkeyPatch) -> None:
    (sums.inputs.parent / "thirty.yaml").write_text(
        json.dumps(sums.graph(plugins=[os.path.relpath(sums.plugin, sums.out.parent)]))
    )
    monkeypatch.chdir(sums.inputs.parent)

    run("thirty.yaml", restart=True)
    _, name, restart, (folder,) = sums.noted()
    run(sums.graph())

    assert (name, restart) == ("thirty", True)
    assert Path(folder).is_absolute()
    assert Path(folder).samefile(sums.plugin)
    assert sums.noted()[1:] == ["graph", False, [str(sums.plugin)]]


def test_what_is_left_out_is_counted_by_reason_and_named_in_the_report(place: Place) -> None:
    graph = place.graph()
    graph["stages"].insert(2, {"use": "odd"})

    outcome = run(graph)

    assert outcome.left_out == {"even": 2}
    assert "left out: 2 even" in str(outcome).splitlines()
    assert place.events()[-1]["left_out"] == {"even": 2}
    paths = {line["path"] for line in place.events() if line["event"] == "left out"}
    assert paths == {str(place.inputs / "deep" / f"{i}.txt") for i in (1, 3)}
