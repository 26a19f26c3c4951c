"""A run on workers: the same bytes and the same messages as in one process, whatever becomes of the workers."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock
from typing import Any

import pytest

from bwpipe.cluster import workforce
from bwpipe.cluster.checks import described
from bwpipe.cluster.describe import cluster_lines
from bwpipe.cluster.executor import ClusterExecutor
from bwpipe.cluster.messages import Introduction
from bwpipe.cluster.pool import WorkerLost
from bwpipe.engine.run import RunResult, run_graph
from bwpipe.errors import TooManyErrors, UsageError
from bwpipe.graph.graph import read_graph
from tests.support.made_photos import write_photos
from tests.support.thread_pool import LocalPool
from tests.support.tripping import FRAMES, PICTURES, contents, tripping_graph

HEAP = '''
"""A stage that sees all files in one stream."""

from collections.abc import Iterator

from bwpipe import Frame, Gather, stage


@stage("heap")
class Heap(Gather):
    """Keeps the last frame."""

    def gather(self, frames: Iterator[Frame]) -> Frame:
        return list(frames)[-1]
'''


class Mixed(LocalPool):
    """A pool whose workers say that they have these processors."""

    def __init__(self, workers: int, names: Iterator[str]) -> None:
        super().__init__(workers)
        self._names = names

    def result(self, ticket: Any) -> Any:
        found = super().result(ticket)
        return replace(found, processor=next(self._names)) if isinstance(found, Introduction) else found


def run_on(pool: LocalPool, graph: dict[str, Any], **options: Any) -> RunResult:
    return run_graph(read_graph(graph, options), quiet=True, executor=ClusterExecutor(pool, cores=1))


def lines(out: Path, event: str) -> list[dict[str, Any]]:
    found = map(json.loads, (out / ".bwpipe" / "report.jsonl").read_text().splitlines())
    return [line for line in found if line["event"] == event]


def test_a_run_on_workers_writes_the_bytes_of_one_process(folder: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    result = run_on(LocalPool(2), tripping_graph(folder, tmp_path / "out"))

    assert result.exit_code == 0
    assert (result.done, result.segments) == (PICTURES + 1, 4)
    assert contents(tmp_path / "out") == whole
    assert (tmp_path / "out.log").read_text() == "film.mkv\n"
    assert not list((tmp_path / "out" / ".bwpipe").glob("*.part*"))
    assert result.meters["write"].items == PICTURES + FRAMES
    assert sum(meter.items for meter in result.workers.values()) == PICTURES + FRAMES
    assert len(result.workers) == 2
    assert all(line["worker"] in result.workers for line in lines(tmp_path / "out", "segment"))
    assert "worker" in result.summary()
    assert run_on(LocalPool(2), tripping_graph(folder, tmp_path / "out")).already == PICTURES + 1


def test_a_lost_worker_is_replaced_and_its_work_done_again(folder: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    losses = iter([0, 2, 3, 5])
    calls = {"next": next(losses), "seen": 0}
    one_at_a_time = Lock()

    def trip(name: str, method: str, arguments: tuple[Any, ...]) -> None:
        if method in ("do", "make_first_pass"):
            with one_at_a_time:
                calls["seen"] += 1
                if calls["seen"] - 1 == calls["next"]:
                    calls["next"] = next(losses, -1)
                    raise WorkerLost("its process has ended")

    pool = LocalPool(2, trip)
    result = run_on(pool, tripping_graph(folder, tmp_path / "out"))

    assert result.exit_code == 0
    assert len(pool.started) == 6
    assert contents(tmp_path / "out") == whole
    assert not list((tmp_path / "out" / ".bwpipe").glob("*.part*"))


def test_a_run_goes_on_with_fewer_workers_where_one_does_not_start_again(
    folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    begun: list[str] = []
    one_at_a_time = Lock()

    def trip(name: str, method: str, arguments: tuple[Any, ...]) -> None:
        if method == "do":
            with one_at_a_time:
                begun.append(name)
                if len(begun) == 1:
                    raise WorkerLost("its machine has ended")
        elif method == "open" and begun:
            raise WorkerLost("it does not start")

    result = run_on(LocalPool(2, trip), tripping_graph(folder, tmp_path / "out"))

    assert result.exit_code == 0
    assert contents(tmp_path / "out") == whole
    assert any("5 workers in a row did not start, the last one because: it does not start" in text for text in result.remarks)
    assert len({*begun}) == 2


def test_what_ends_its_workers_again_and_again_fails_by_name_and_the_rest_is_done(folder: Path, tmp_path: Path) -> None:
    def trip(name: str, method: str, arguments: tuple[Any, ...]) -> None:
        if method == "do" and any(task.start == 20 for tasks in arguments[0].tasks.values() for task in tasks):
            raise WorkerLost("its process has ended")

    result = run_on(LocalPool(2, trip), tripping_graph(folder, tmp_path / "out"))

    assert result.exit_code == 1
    assert {path.name: text for path, text in result.failed.items()} == {
        "film.mkv": "5 workers were lost over it, the last one because: its process has ended"
    }
    assert result.done == PICTURES
    assert run_on(LocalPool(1), tripping_graph(folder, tmp_path / "out")).done == 1


def test_a_file_that_fails_fails_by_name_and_others_go_on(folder: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 3)
    good = (tmp_path / "in" / "001.png").read_bytes()
    (tmp_path / "in" / "001.png").write_bytes(good[: len(good) // 2])
    graph = tripping_graph(folder, tmp_path / "out")
    graph["stages"][0]["path"] = str(tmp_path / "in")

    result = run_on(LocalPool(2), graph)

    assert [path.name for path in result.failed] == ["001.png"]
    assert result.done == 2
    with pytest.raises(TooManyErrors):
        run_on(LocalPool(2), {**graph, "on_error": "stop"})


def test_what_is_wrong_with_a_worker_is_one_sentence_and_nothing_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(workforce, "__version__", "9.9")
    with pytest.raises(UsageError, match=r"a worker has bwpipe .*, and this is 9\.9; install the same version"):
        run_on(LocalPool(2), tripping_graph(folder, out))
    assert not out.exists()
    monkeypatch.undo()

    both_open, one_is_dismissed, probe_was_there = Event(), Event(), []

    def hide(name: str, method: str, arguments: tuple[Any, ...]) -> None:
        if method == "open":
            probe = next(iter((out / ".bwpipe").glob("*.part")))
            if name.endswith("-1"):
                both_open.wait()
            else:  # the other one is refused while this one opens the folder
                both_open.set()
                one_is_dismissed.wait()
            probe_was_there.append(probe.exists())
            probe.write_bytes(b"of another folder")

    class Dismissing(LocalPool):
        def kill(self, worker: Any) -> None:
            one_is_dismissed.set()
            super().kill(worker)

    with pytest.raises(UsageError, match=r"the output folder .* is another one here; mount the same folder"):
        run_on(Dismissing(2, hide), tripping_graph(folder, out))
    assert probe_was_there == [True, True]
    assert not out.exists()

    def lose(name: str, method: str, arguments: tuple[Any, ...]) -> None:
        raise WorkerLost("No module named 'bwpipe'; install bwpipe there, in the same version")

    with pytest.raises(UsageError, match="no worker starts: No module named 'bwpipe'; install"):
        run_on(LocalPool(2, lose), tripping_graph(folder, out))
    assert not out.exists()


def test_a_missing_plugin_on_a_worker_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    graph = tripping_graph(folder, tmp_path / "out")
    (tmp_path / "later").mkdir()
    graph["plugins"].append(str(tmp_path / "later"))

    def remove(name: str, method: str, arguments: tuple[Any, ...]) -> None:
        if method == "open" and (tmp_path / "later").exists():
            (tmp_path / "later").rmdir()

    with pytest.raises(UsageError, match=r"a worker can't start: .*there is no plugin folder .*later"):
        run_on(LocalPool(1, remove), graph)


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("plugins", r"the plug-in folder .*trip holds something else here; mount the same folder under the same path"),
        ("missing", r"the input .* can't be read here \(No such file or directory\); mount its folder under the same path"),
        ("inputs", r"the input .* is another file here; mount the same folder under the same path"),
        ("recipes", r"grayscale would do something else here \(denoise\); mount the same weights and other files"),
    ],
)
def test_a_worker_that_sees_other_files_is_one_sentence(what: str, text: str, folder: Path, tmp_path: Path) -> None:
    class Elsewhere(LocalPool):
        """A pool whose workers are given what another machine has."""

        def call(self, worker: Any, method: str, *arguments: Any) -> Any:
            if method == "open":
                (setup,) = arguments
                recipes = {name: recipe.replace('"light"', '"off"') for name, recipe in setup.recipes.items()}
                others: dict[str, Any] = {
                    "plugins": {"plugins": dict.fromkeys(setup.plugins, "0")},
                    "inputs": {"inputs": dict.fromkeys(setup.inputs, -1)},
                    "missing": {"inputs": {"/nowhere/reel.mkv": 1}},
                    "recipes": {"recipes": recipes},
                }
                arguments = (replace(setup, **others[what]),)
            return super().call(worker, method, *arguments)

    with pytest.raises(UsageError, match=f"a worker can't start: {text}"):
        run_on(Elsewhere(1), tripping_graph(folder, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_worker_with_another_run_time_is_a_warning(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def of_another(graph: Any) -> dict[str, str]:
        found = described(graph)
        return {**found, "grayscale": json.dumps({**json.loads(found["grayscale"]), "runtime": "openvino 1"})}

    monkeypatch.setattr("bwpipe.cluster.executor.described", of_another)
    assert run_on(LocalPool(2), tripping_graph(folder, tmp_path / "out")).exit_code == 0
    said = "a worker computes grayscale with torch and not openvino 1, so that last bits"
    assert capsys.readouterr().err.count(said) == 1


def test_an_interrupted_run_ends_its_workers_and_goes_on_without_them(
    folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    class Interrupted(BaseException):
        pass

    class Stopping(LocalPool):
        done = 0

        def result(self, ticket: Any) -> Any:
            found = super().result(ticket)
            self.done += type(found).__name__ == "News"
            if self.done == 3:
                raise Interrupted
            return found

    with pytest.raises(Interrupted):
        run_on(Stopping(2), tripping_graph(folder, tmp_path / "out"))

    again = run_graph(read_graph(tripping_graph(folder, tmp_path / "out")), quiet=True)
    assert again.exit_code == 0
    assert contents(tmp_path / "out") == whole


def test_a_stage_that_sees_all_files_in_one_stream_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "heap.py").write_text(HEAP)
    stages = [{"use": "read", "path": str(folder / "in" / "pictures")}, {"use": "heap"}]

    with pytest.raises(UsageError, match="heap sees all files in one stream; run this graph on one machine"):
        run_on(LocalPool(1), {"plugins": [str(tmp_path / "own")], "stages": stages})


def test_a_machine_with_other_processors_is_named_once_and_what_it_measured_is_kept(folder: Path, tmp_path: Path) -> None:
    names = iter(["one processor", "another", "another"])
    pool = Mixed(3, names)

    result = run_on(pool, tripping_graph(folder, tmp_path / "out"))

    said = [text for text in result.remarks if "processors differ" in text]
    assert len(said) == 1
    assert "one processor, another" in said[0]


def test_the_lines_on_a_cluster_say_what_it_has_and_how_long_it_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bwpipe.cluster.describe.cores", lambda: 2)

    found = list(cluster_lines(LocalPool(4), 2, 600.0))

    assert found[0] == "this process:"
    assert "room for 4 workers of 2 processors each" in found[2]
    assert "about 2.5 minutes, if its processors are like those here, of which 2 take 10 minutes" in found[3]
