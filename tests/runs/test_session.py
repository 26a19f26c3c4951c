"""Full runs of small stages: what is done, redone, kept, rejected and reported."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from bwpipe.engine.run import RunResult, run
from bwpipe.errors import RunAborted, TooManyErrors, UsageError
from bwpipe.graph.graph import read_graph
from bwpipe.tools.describe import describe_graph

PLUGIN = '''
"""Stages on text files, each of which counts as a picture, to test the engine."""

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
    BatchMap, Broken, End, Frame, Gather, Map, Media, MediaError, NoEffect, RunContext, Sink, Source, Stage, Unit,
    UsageError, stage,
)
from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.inputs import find_files
from bwpipe.core.fingerprint import Fingerprint


@stage("read_text")
class ReadText(Source):
    """Reads each text file, a number, as a frame of one pixel."""

    path: NoEffect[str]

    def units(self) -> Iterator[Unit | Broken]:
        for path, name in find_files(self.path):
            if path.is_symlink():
                yield Broken(path, name, "it is a link")
            elif path.read_text() == "no header":
                yield Broken(path, name, "it has no header")
            else:
                yield Unit(Media(path=path, name=name, width=1, height=1))

    def read(self, unit: Unit, context: int) -> Iterator[Frame]:
        text = unit.path.read_text()
        if not text.isdecimal():
            raise MediaError("it is not a number")
        yield Frame(np.array([[int(text)]], np.uint8), unit)


@stage("add")
class Add(Map):
    """Adds a number."""

    by: int = 1
    wait: NoEffect[float] = 0
    fail: NoEffect[str] = ""

    def setup(self, run: RunContext) -> None:
        if self.fail == "setup":
            raise UsageError("add.fail: this device does not exist")
        if self.fail == "no memory":
            raise MemoryError
        if self.fail == "no threads":
            raise RuntimeError("can't start new thread")
        if self.fail == "no memory for a library":
            raise OSError(errno.ENOMEM, "it failed")
        run.remember("add.chosen", lambda: self.by)

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
            raise MediaError("no format can store it")
        return self.folder / (unit.name.name if self.flat else unit.name)

    def open(self, unit: Unit) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "no space")

    def write(self, frame: Frame) -> None:
        file = AtomicFile(self.target(frame.unit), self.folder)
        file.path.write_text(str(frame.luma.item()))
        self._files[frame.unit] = file

    _files: dict[Unit, AtomicFile] = {}

    def commit(self, unit: Unit) -> AtomicFile:
        return self._files.pop(unit)

    def abandon(self, unit: Unit) -> None:
        if file := self._files.pop(unit, None):
            file.discard()


@stage("picky")
class Picky(BatchMap):
    """Has no key for some items."""

    def key(self, frame: Frame) -> Any:
        if frame.luma.item() == 2:
            raise MediaError("it has no size")
        return [] if frame.luma.item() == 3 else None

    def apply(self, frames: list[Frame]) -> list[Frame]:
        return frames


@stage("odd")
class Odd(Stage):
    """Excludes even numbers."""

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
    """Adds up all numbers, and caches the sum in a file."""

    path: NoEffect[Path]
    factor: int = 1

    _key: str = PrivateAttr()

    def ready(self, units: Mapping[Unit, Fingerprint | None], recipe: Sequence[Mapping[str, Any]]) -> int | None:
        if self.factor == 0:
            raise UsageError("total.factor: it is 0")
        self._key = json.dumps([[(str(unit.name), fingerprint) for unit, fingerprint in units.items()], recipe])
        cache = json.loads(self.path.read_text()) if self.path.exists() else {}
        return cache.get(self._key)

    def gather(self, frames: Iterator[Frame]) -> int:
        total = self.factor * sum(int(frame.luma.item()) for frame in frames)
        self.path.write_text(json.dumps({self._key: total}))
        return total


@stage("note")
class Note(Stage):
    """Writes the sum and properties of the run to a file."""

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


class Workspace:
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

    def outputs(self) -> dict[str, str]:
        files = [path for path in sorted(self.out.rglob("*")) if path.is_file() and ".bwpipe" not in path.parts]
        return {str(path.relative_to(self.out)): path.read_text() for path in files}

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / ".bwpipe" / "report.jsonl").read_text().splitlines()]


@pytest.fixture
def workspace(tmp_path: Path, plugin: Path) -> Workspace:
    return Workspace(tmp_path, plugin)


def test_a_run_mirrors_the_tree_and_reports_its_work(workspace: Workspace) -> None:
    result = workspace.run()

    assert workspace.outputs() == {f"deep/{i}.txt": str(i + 1) for i in range(5)}
    assert (result.done, result.exit_code) == (5, 0)
    assert [meter.items for meter in result.meters.values()] == [5, 5, 5]
    assert [line["event"] for line in workspace.events()] == ["done"] * 5 + ["ended"]
    table = str(result).splitlines()
    assert [line.split()[0] for line in table] == ["stage", "read_text", "add", "write_text", "5"]


def test_the_same_run_again_does_nothing(workspace: Workspace) -> None:
    workspace.run()
    before = {path: path.stat().st_mtime_ns for path in workspace.out.rglob("*.txt")}

    result = workspace.run()

    assert (result.done, result.already, result.exit_code) == (0, 5, 0)
    assert {path: path.stat().st_mtime_ns for path in workspace.out.rglob("*.txt")} == before


def test_a_changed_recipe_redoes_everything_and_an_option_without_effect_nothing(workspace: Workspace) -> None:
    workspace.run()

    assert workspace.run(add__wait=0.001, add__workers=2, queue=1).done == 0
    assert workspace.run(add__by=2).done == 5
    assert workspace.outputs()["deep/3.txt"] == "5"


def test_options_override_a_graph_that_was_read(workspace: Workspace) -> None:
    run(read_graph(workspace.graph()), set={"add.by": 5})

    assert workspace.outputs()["deep/3.txt"] == "8"


def test_a_changed_input_and_a_missing_output_are_redone(workspace: Workspace) -> None:
    workspace.run()
    (workspace.inputs / "deep" / "1.txt").write_text("41")
    (workspace.out / "deep" / "2.txt").unlink()

    assert workspace.run().done == 2
    assert workspace.outputs()["deep/1.txt"] == "42"
    assert workspace.outputs()["deep/2.txt"] == "3"


def test_files_not_written_by_bwpipe_are_kept_unless_overwrite_is_set(workspace: Workspace) -> None:
    (workspace.out / "deep").mkdir(parents=True)
    (workspace.out / "deep" / "1.txt").write_text("mine")

    result = workspace.run()
    assert (result.done, result.kept) == (4, [workspace.out / "deep" / "1.txt"])
    assert workspace.outputs()["deep/1.txt"] == "mine"

    assert workspace.run(write_text__overwrite=True).done == 1
    assert workspace.outputs()["deep/1.txt"] == "2"


def test_an_output_that_was_retouched_by_hand_is_kept(workspace: Workspace) -> None:
    workspace.run()
    (workspace.out / "deep" / "1.txt").write_text("retouched")

    assert workspace.run(add__by=7).done == 4
    assert workspace.outputs()["deep/1.txt"] == "retouched"


def test_a_failed_file_is_named_and_the_others_are_processed(workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    (workspace.inputs / "deep" / "1.txt").write_text("one")
    (workspace.inputs / "deep" / "3.txt").write_text("no header")

    result = workspace.run()

    assert (result.done, result.exit_code) == (3, 1)
    bad, headless = workspace.inputs / "deep" / "1.txt", workspace.inputs / "deep" / "3.txt"
    assert result.failed == {bad: "it is not a number", headless: "it has no header"}
    assert f"error: {bad}: it is not a number\n" in capfd.readouterr().err
    assert {line["text"] for line in workspace.events() if line["event"] == "failed"} == {
        "it is not a number",
        "it has no header",
    }
    assert sorted(workspace.outputs()) == ["deep/0.txt", "deep/2.txt", "deep/4.txt"]


def test_a_file_without_a_possible_output_fails_and_the_others_are_processed(workspace: Workspace) -> None:
    (workspace.inputs / "a.odd").write_text("1")

    result = workspace.run()

    assert (result.done, result.failed) == (5, {workspace.inputs / "a.odd": "no format can store it"})


def test_control_characters_in_a_name_are_shown_as_escapes(workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    (workspace.inputs / "a\x1b[31m\nb.txt").write_text("one")

    workspace.run()

    assert r"in/a\x1b[31m\nb.txt: it is not a number" in capfd.readouterr().err


def test_a_name_that_is_not_utf8_is_processed_like_any_other(workspace: Workspace) -> None:
    (workspace.inputs / os.fsdecode(b"\xff.txt")).write_text("7")

    assert workspace.run().done == 6
    assert workspace.run().done == 0


@pytest.mark.parametrize("top", [{"on_error": "stop"}, {"max_errors": 0}])
def test_the_run_stops_at_an_error_on_request(workspace: Workspace, top: dict[str, Any]) -> None:
    (workspace.inputs / "deep" / "0.txt").write_text("one")

    with pytest.raises(TooManyErrors, match=r"stopped: 1 file failed \(limit 0\); the last was .*0\.txt"):
        workspace.run(top)

    assert TooManyErrors.exit_code == 1


def test_outputs_inside_the_inputs_are_never_read(workspace: Workspace) -> None:
    workspace.out = workspace.inputs / "out"
    workspace.run()

    result = workspace.run(add__by=2)

    assert (result.done, sorted(workspace.outputs())) == (5, [f"deep/{i}.txt" for i in range(5)])


def assert_rejected(workspace: Workspace, message: str, **options: Any) -> None:
    """Assert that the run is rejected with this message and writes nothing."""
    before = sorted(workspace.inputs.parent.rglob("*"))
    with pytest.raises(UsageError, match=message):
        workspace.run(**options)
    assert sorted(workspace.inputs.parent.rglob("*")) == before


def test_an_output_that_would_overwrite_an_input_is_rejected(workspace: Workspace) -> None:
    assert_rejected(workspace, "would overwrite the input", write_text__path=str(workspace.inputs))


def test_inputs_with_the_same_output_fail_by_name_and_the_others_are_processed(workspace: Workspace) -> None:
    one, other = workspace.inputs / "deep" / "1.txt", workspace.inputs / "other" / "1.txt"
    other.parent.mkdir()
    other.write_text("1")

    result = workspace.run(write_text__flat=True)

    assert sorted(workspace.outputs()) == ["0.txt", "2.txt", "3.txt", "4.txt"]
    end = f"would both become {workspace.out / '1.txt'}; rename one, or write to another `name`"
    assert result.failed == {one: f"it and {other} {end}", other: f"it and {one} {end}"}


def test_a_new_output_folder_directly_below_the_root_is_accepted(workspace: Workspace) -> None:
    graph = workspace.graph()
    graph["stages"][-1]["path"] = "/bwpipe-new"

    assert list(describe_graph(read_graph(graph)))[-1] == "would read: 5 pictures"
    assert not Path("/bwpipe-new").exists()


def test_outputs_of_an_earlier_run_inside_the_inputs_are_not_read_for_another_output_folder(workspace: Workspace) -> None:
    workspace.out = workspace.inputs / "deep" / "first"
    workspace.run()
    (workspace.out / "mine.txt").write_text("6")
    workspace.out = workspace.inputs / "second"

    workspace.run()

    assert sorted(workspace.outputs()) == [*(f"deep/{i}.txt" for i in range(5)), "deep/first/mine.txt"]
    first = workspace.inputs / "deep" / "first"
    assert workspace.run(read_text__path=str(first), write_text__path=str(workspace.inputs / "third")).done == 6
    (first / ".bwpipe" / "ledger.sqlite").write_bytes(b"damaged")
    assert workspace.run(write_text__path=str(workspace.inputs / "fourth")).done == 5


def test_links_that_lead_to_themselves_fail_and_the_others_are_processed(workspace: Workspace) -> None:
    loop = workspace.inputs / "loop.odd"
    loop.symlink_to("loop.odd")

    result = workspace.run(read_text__path=str(workspace.inputs))

    assert (result.done, list(result.failed)) == (5, [loop])


def test_an_empty_or_missing_input_is_rejected(workspace: Workspace) -> None:
    (workspace.inputs / "empty").mkdir()

    assert_rejected(workspace, "there is nothing to read; give another path", read_text__path=str(workspace.inputs / "empty"))
    assert_rejected(workspace, "there is no file or folder", read_text__path=str(workspace.inputs / "gone"))


def test_a_failed_setup_is_reported_before_anything_is_written(workspace: Workspace) -> None:
    assert_rejected(workspace, "this device does not exist", add__fail="setup")


def test_a_full_disk_aborts_the_run(workspace: Workspace) -> None:
    with pytest.raises(RunAborted, match="the disk is full"):
        workspace.run(write_text__full=True)

    assert workspace.outputs() == {}
    assert workspace.events()[-1]["event"] == "stopped"
    assert workspace.run().done == 5


def test_a_picture_too_large_for_memory_only_fails_itself(workspace: Workspace) -> None:
    result = workspace.run(add__fail="memory")

    assert set(result.failed.values()) == {"there is not enough memory for a picture of 1x1 pixels"}


@pytest.mark.parametrize("fail", ["no memory", "no threads", "no memory for a library"])
def test_too_little_memory_before_anything_is_read_is_one_sentence(workspace: Workspace, fail: str) -> None:
    with pytest.raises(RunAborted, match="out of memory; use a smaller `batch` or `queue`"):
        workspace.run(add__fail=fail)


def test_a_key_that_can_not_be_made_fails_its_file_only(workspace: Workspace) -> None:
    graph = workspace.graph()
    graph["stages"].insert(1, {"use": "picky"})

    result = run(graph)

    bad = [workspace.inputs / "deep" / f"{i}.txt" for i in (2, 3)]
    assert (result.done, sorted(result.failed)) == (3, bad)
    assert result.failed[bad[0]] == "it has no size"


def test_threads_have_room_or_are_not_started(workspace: Workspace) -> None:
    graph = workspace.inputs.parent / "graph.yaml"
    graph.write_text(json.dumps(workspace.graph()))
    limit = "import resource, runpy, sys\nimport bwpipe.stages.write, bwpipe.stages.colorize\n"
    limit += "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
    limit += "resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)\n"
    limit += f"sys.argv = ['bwpipe', 'run', {str(graph)!r}]\nrunpy.run_module('bwpipe', run_name='__main__')\n"

    ended = subprocess.run([sys.executable, "-c", limit], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 3, ended
    assert ended.stderr == "error: out of memory: a run needs 640 MB more than there are; add memory, or raise its limit\n"


def test_removing_the_output_folder_aborts_the_run_and_it_is_not_created_again(workspace: Workspace) -> None:
    process = started(workspace, 0.5)
    wait_for(process, workspace.outputs)
    process.send_signal(signal.SIGSTOP)  # or it could add a file to the folder while that is being removed
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    shutil.rmtree(workspace.out)
    process.send_signal(signal.SIGCONT)

    _, err = process.communicate(timeout=100)

    assert process.returncode == 3
    assert "the output folder is gone" in err or "ledger" in err
    assert not workspace.out.exists()


def test_an_input_that_changes_during_the_run_fails_and_is_done_by_the_next_run(workspace: Workspace) -> None:
    process = started(workspace, 0.5)
    wait_for(process, workspace.outputs)
    (workspace.inputs / "deep" / "4.txt").write_text("99")

    _, err = process.communicate(timeout=100)

    assert process.returncode == 1
    assert "4.txt: it changed while it was being read; run again" in err
    assert workspace.run().done == 1
    assert workspace.outputs()["deep/4.txt"] == "100"


def test_links_can_not_make_an_output_overwrite_an_input_or_leave_its_folder(workspace: Workspace) -> None:
    link = workspace.inputs.parent / "link"
    link.symlink_to(workspace.inputs)
    options: dict[str, Any] = {"write_text__overwrite": True}
    assert_rejected(workspace, "would overwrite the input", write_text__path=str(link), **options)
    assert_rejected(workspace, "would overwrite the input", write_text__path=f"{workspace.inputs}/deep/..", **options)

    workspace.out.mkdir()
    (workspace.out / "deep").symlink_to(workspace.inputs / "deep")
    assert_rejected(workspace, "is a link that leads outside", **options)


def test_an_event_log_that_is_a_link_is_replaced_not_followed(workspace: Workspace) -> None:
    workspace.run()
    precious = workspace.inputs.parent / "precious"
    precious.write_text("mine")
    (workspace.out / ".bwpipe" / "report.jsonl").unlink()
    (workspace.out / ".bwpipe" / "report.jsonl").symlink_to(precious)

    workspace.run(add__by=2)

    assert precious.read_text() == "mine"


def test_two_sinks_that_would_write_the_same_files_are_rejected(workspace: Workspace) -> None:
    graph = workspace.graph()
    graph["stages"].append({"use": "write_text", "id": "again", "from": "add", "path": str(workspace.out)})

    with pytest.raises(UsageError, match="write_text and again would both write"):
        run(graph)


def test_a_stage_that_does_not_end_is_abandoned_soon_after_a_signal(workspace: Workspace) -> None:
    process = started(workspace, 60)
    wait_for(process, (workspace.out / ".bwpipe").exists)
    process.send_signal(signal.SIGTERM)

    process.communicate(timeout=100)

    assert process.returncode == 143


@pytest.mark.parametrize(
    ("signals", "code", "message"),
    [
        ([signal.SIGINT], 130, "interrupted by SIGINT; the same command resumes from here\n"),
        ([signal.SIGINT, signal.SIGTERM], 143, ""),
    ],
)
def test_signals_are_heard_within_a_call_into_c(
    workspace: Workspace, signals: list[signal.Signals], code: int, message: str
) -> None:
    grace = 1 if len(signals) == 1 else 8  # seconds: a second signal is not to come after the end
    busy = (
        f"import hashlib\nfrom bwpipe.cli import signals\nsignals.GRACE_PERIOD = {grace}\nprint(flush=True)\n"
        "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)\n"
    )
    (workspace.inputs.parent / "busy").mkdir()
    (workspace.inputs.parent / "busy" / "busy.py").write_text(busy)  # minutes, in the main thread, before anything is read
    graph = workspace.inputs.parent / "graph.yaml"
    graph.write_text(json.dumps(workspace.graph(plugins=[str(workspace.inputs.parent / "busy")])))
    command = [sys.executable, "-m", "bwpipe", "run", str(graph)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "\n"
        for number in signals:
            sleep(0.2)
            process.send_signal(number)
        _, err = process.communicate(timeout=100)

    assert (process.returncode, err) == (code, message)


def test_a_run_with_closed_standard_output_succeeds(workspace: Workspace) -> None:
    graph = workspace.inputs.parent / "graph.yaml"
    graph.write_text(json.dumps(workspace.graph()))
    command = f"{sys.executable} -m bwpipe run {graph}"

    for plumbing in ("> /dev/full", "2>&-", "| true; exit ${PIPESTATUS[0]}"):
        assert (
            subprocess.run(["bash", "-c", f"{command} {plumbing}"], timeout=60, capture_output=True, check=False).returncode
            == 0
        ), plumbing
    assert len(workspace.outputs()) == 5


def test_each_branch_writes_its_own_files(workspace: Workspace) -> None:
    graph = workspace.graph()
    graph["stages"] += [
        {"use": "add", "id": "more", "from": "add", "by": 10},
        {"use": "write_text", "id": "other", "path": str(workspace.out) + "-other"},
    ]

    assert run(graph).done == 10
    assert (Path(str(workspace.out) + "-other") / "deep" / "1.txt").read_text() == "12"
    (workspace.out / "deep" / "1.txt").unlink()
    assert run(graph).done == 1


def started(workspace: Workspace, wait: float) -> "subprocess.Popen[str]":
    """Start the run as a command, slowed down so that it can be disturbed."""
    graph = workspace.inputs.parent / "graph.yaml"
    graph.write_text(json.dumps(workspace.graph()))
    command = [sys.executable, "-m", "bwpipe", "run", str(graph), "--set", f"add.wait={wait}"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for(process: "subprocess.Popen[str]", condition: Callable[[], object]) -> None:
    """Wait until the condition holds while the process runs; sleep in between, so as not to starve it."""
    while not condition():
        assert process.poll() is None, process.communicate()
        sleep(0.02)


def disturbed(workspace: Workspace, number: signal.Signals) -> int:
    """Send a signal to a run as soon as it has written a file, and return its exit code."""
    process = started(workspace, 0.5)
    wait_for(process, workspace.outputs)
    process.send_signal(number)
    process.communicate(timeout=100)
    return process.returncode


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_an_interrupted_run_resumes_to_the_same_files(workspace: Workspace, number: signal.Signals, code: int) -> None:
    assert disturbed(workspace, number) == code
    assert 0 < len(workspace.outputs()) < 5

    result = workspace.run()

    assert result.done + result.already == 5
    assert result.already > 0
    assert workspace.outputs() == {f"deep/{i}.txt": str(i + 1) for i in range(5)}
    assert list((workspace.out / ".bwpipe").glob("*.part*")) == []


def test_a_second_run_into_the_same_folder_is_rejected(workspace: Workspace) -> None:
    process = started(workspace, 0.5)
    wait_for(process, workspace.outputs)

    with pytest.raises(UsageError, match="another run is writing into it"):
        workspace.run()

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)


def test_the_command_shows_a_table_and_exits_with_the_right_code(workspace: Workspace) -> None:
    (workspace.inputs / "deep" / "1.txt").write_text("one")
    process = started(workspace, 0)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert out.splitlines()[0].split() == ["stage", "items", "busy", "s", "share"]
    assert out.splitlines()[-1].startswith("4 pictures done, 1 failed in ")
    assert err == f"error: {workspace.inputs / 'deep' / '1.txt'}: it is not a number\n"


def test_threads_and_files_are_released(workspace: Workspace) -> None:
    import threading

    def files() -> Counter[str]:
        """What is open, and how often; what tests before this one left may be closed meanwhile."""
        return Counter(str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())

    workspace.run()
    threads_before, files_before = set(threading.enumerate()), files()
    workspace.run(add__by=3)
    with pytest.raises(RunAborted):
        workspace.run(write_text__full=True, add__by=4)

    assert set(threading.enumerate()) <= threads_before
    assert files() <= files_before


class Sums(Workspace):
    """A graph that adds up all numbers; its result is in the file `note`."""

    def graph(self, **top: Any) -> dict[str, Any]:
        graph = super().graph(**top)
        root = self.inputs.parent
        graph["stages"][2:] = [{"use": "total", "path": str(root / "kept")}, {"use": "note", "path": str(root / "note")}]
        return graph

    def noted(self) -> Any:
        return json.loads((self.inputs.parent / "note").read_text())

    def items(self, **options: Any) -> list[int]:
        """Number of items that each stage produced."""
        return [meter.items for meter in self.run(**options).meters.values()]


@pytest.fixture
def sums(tmp_path: Path, plugin: Path) -> Sums:
    return Sums(tmp_path, plugin)


def test_stages_that_only_feed_a_ready_gathering_stage_are_not_started(sums: Sums) -> None:
    assert sums.items() == [5, 5, 1, 1]
    assert sums.noted()[0] == 15

    result = sums.run()

    assert [meter.items for meter in result.meters.values()] == [0, 0, 1, 1]
    assert (result.done, result.already, sums.noted()[0]) == (0, 5, 15)
    assert str(result).splitlines()[-1].startswith("0 done, 5 done already in ")


def test_a_cached_gather_depends_on_recipes_and_fingerprints_of_its_input(sums: Sums) -> None:
    sums.run()

    assert sums.items(add__wait=0.001, queue=1) == [0, 0, 1, 1]
    assert sums.items(add__by=2) == [5, 5, 1, 1]
    assert sums.items(add__by=2, total__factor=3) == [5, 5, 1, 1]
    assert sums.noted()[0] == 60
    (sums.inputs / "deep" / "1.txt").write_text("41")
    assert sums.items(add__by=2, total__factor=3) == [5, 5, 1, 1]
    assert sums.noted()[0] == 180


def test_a_branch_that_is_not_ready_reads_everything_beside_one_that_is(sums: Sums) -> None:
    sums.run()
    graph = sums.graph()
    graph["stages"] += [
        {"use": "add", "id": "more", "from": "read_text", "by": 10},
        {"use": "write_text", "path": str(sums.out)},
    ]

    result = run(graph)

    assert [meter.items for meter in result.meters.values()] == [5, 0, 1, 1, 5, 5]
    assert (result.done, sums.noted()[0]) == (5, 15)
    assert sums.outputs()["deep/3.txt"] == "13"


def test_an_error_in_ready_names_the_override_whose_value_is_wrong(sums: Sums) -> None:
    with pytest.raises(UsageError, match=r"set\['total.factor'\]: total.factor: it is 0"):
        sums.run(total__factor=0)


def test_a_file_with_a_bad_header_fails_even_if_nothing_is_read(sums: Sums) -> None:
    (sums.inputs / "deep" / "3.txt").write_text("no header")
    sums.run()

    result = sums.run()

    assert (result.already, result.exit_code, list(result.failed)) == (4, 1, [sums.inputs / "deep" / "3.txt"])


def test_stages_know_the_graphs_name_plugins_and_restart(sums: Sums, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_excluded_files_are_counted_by_reason_and_named_in_the_report(workspace: Workspace) -> None:
    graph = workspace.graph()
    graph["stages"].insert(2, {"use": "odd"})

    result = run(graph)

    assert result.left_out == {"even": 2}
    assert "left out: 2 even" in str(result).splitlines()
    assert workspace.events()[-1]["left_out"] == {"even": 2}
    paths = {line["path"] for line in workspace.events() if line["event"] == "left out"}
    assert paths == {str(workspace.inputs / "deep" / f"{i}.txt") for i in (1, 3)}
