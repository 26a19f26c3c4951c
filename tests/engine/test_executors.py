"""Each stage shape, run by its executor."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from threading import local
from typing import Any

import pytest
from numpy.testing import assert_array_equal

from bwpipe import BatchMap, End, Frame, Gather, Map, MediaError, RunAborted, RunContext, Sink, Source, Stage, Unit, UnitMap
from bwpipe.core.atomic_file import AtomicFile
from bwpipe.engine import executors, timing
from bwpipe.engine.batching import OPEN_BATCHES
from bwpipe.engine.executors import execute, execute_source
from bwpipe.engine.sink_executor import execute_sink
from bwpipe.engine.timing import Meter
from bwpipe.errors import TooManyErrors
from bwpipe.testing import make_frames


def stream(source: Iterable[Frame]) -> Iterator[Frame | End]:
    frames = list(source)
    for i, frame in enumerate(frames):
        yield frame
        if i + 1 == len(frames) or frames[i + 1].unit is not frame.unit:
            yield End(frame.unit)


def run_stage(stage: Stage, items: Iterator[Any], run: RunContext | None = None) -> list[Any]:
    return list(execute(stage, items, run or RunContext(), Meter()))


class MarkSeen(Map):
    def apply(self, frame: Frame) -> Frame:
        if frame.notes.get("bad"):
            raise MediaError("it is bad")
        return replace(frame, notes={"seen": True})


class BatchSize(BatchMap):
    """Records the size of each batch, and rejects bad frames and batches larger than `room`."""

    room: int = 1000

    def key(self, frame: Frame) -> Any:
        return frame.luma.shape

    def apply(self, frames: list[Frame]) -> list[Frame]:
        if len(frames) > self.room:
            raise MemoryError
        if any(frame.notes.get("bad") for frame in frames):
            raise MediaError("the batch contains a bad frame")
        assert len({frame.luma.shape for frame in frames}) == 1
        assert len({frame.unit for frame in frames}) == 1 or frames[0].unit.media.kind == "picture"
        return [replace(frame, notes={"batch": len(frames)}) for frame in frames]


class Reversed(UnitMap):
    def apply(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        yield from reversed(list(frames))


class FirstOnly(UnitMap):
    def apply(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        yield next(frames)


class Count(Gather):
    def gather(self, frames: Iterator[Frame]) -> int:
        return sum(1 for _ in frames)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_map_keeps_order_and_ends(workers: int) -> None:
    frames = make_frames(5)

    output = run_stage(MarkSeen(workers=workers), stream(frames))

    assert [item.unit for item in output] == [frame.unit for frame in frames for _ in range(2)]
    assert [isinstance(item, End) for item in output] == [False, True] * 5


@pytest.mark.parametrize("stage", [MarkSeen(), BatchSize(batch=4), MarkSeen(workers=3), BatchSize(batch=2, workers=2)])
def test_only_the_unit_of_a_bad_frame_fails(stage: Stage) -> None:
    frames = make_frames(6)
    frames[2] = replace(frames[2], notes={"bad": True})
    run = RunContext()

    output = [item.unit for item in run_stage(stage, stream(frames), run) if not isinstance(item, End)]

    assert output == [frame.unit for frame in frames if frame is not frames[2]]
    assert list(run.failures) == [frames[2].unit]


def test_the_frames_of_a_film_after_the_bad_one_are_dropped() -> None:
    frames = make_frames(9, film=True)
    frames[4] = replace(frames[4], notes={"bad": True})

    output = run_stage(MarkSeen(), stream(frames))

    assert [item.index for item in output if not isinstance(item, End)] == [0, 1, 2, 3]
    assert isinstance(output[-1], End)


def test_batches_are_full_with_one_key_each_and_order_is_kept() -> None:
    small, large = make_frames(10), make_frames(10, height=96, name="large.png")
    frames = [frame for pair in zip(small, large, strict=True) for frame in pair]

    output = [item for item in run_stage(BatchSize(batch=4), stream(frames)) if not isinstance(item, End)]

    assert [item.unit for item in output] == [frame.unit for frame in frames]
    assert {item.notes["batch"] for item in output} == {4}


def test_a_batch_never_spans_two_films() -> None:
    films = [make_frames(5, film=True, name=f"{i}.mkv") for i in range(3)]  # asserted by BatchSize

    output = run_stage(BatchSize(batch=4, workers=2), stream(chain(*films)))

    assert [item.index for item in output if not isinstance(item, End)] == [0, 1, 2, 3, 4] * 3


def test_a_rare_key_delays_at_most_a_few_batches() -> None:
    consumed = 0

    def items() -> Iterator[Frame | End]:
        nonlocal consumed
        for item in stream(make_frames(1, height=96, name="rare.png") + make_frames(100)):
            consumed += 1
            yield item

    output = execute(BatchSize(batch=2), items(), RunContext(), Meter())
    next(output)

    assert consumed <= 2 * (OPEN_BATCHES + 2) * 2


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_batches_are_full_with_any_number_of_workers(workers: int) -> None:
    sizes: list[int] = []

    class RecordSizes(BatchMap):
        def apply(self, frames: list[Frame]) -> list[Frame]:
            sizes.append(len({frame.unit for frame in frames}))
            return frames

    run_stage(RecordSizes(batch=8, workers=workers), stream(make_frames(160, height=4, width=4)))

    assert sizes == [8] * 20


def test_out_of_memory_halves_the_batch_with_a_warning() -> None:
    warnings: list[str] = []

    output = run_stage(BatchSize(batch=8, room=3), stream(make_frames(20)), RunContext(say=warnings.append))

    assert {item.notes["batch"] for item in output if not isinstance(item, End)} == {2}
    assert len(warnings) == 2
    assert "its batch is reduced from 4 to 2" in warnings[1]


def test_out_of_memory_for_a_single_frame_ends_the_run() -> None:
    with pytest.raises(RunAborted, match="out of memory, even for one frame"):
        run_stage(BatchSize(batch=2, room=0), stream(make_frames(1)))


def test_a_unit_map_sees_one_unit_at_a_time_and_may_stop_early() -> None:
    films = [make_frames(3, film=True, name=f"{i}.mkv") for i in range(2)]

    backwards = run_stage(Reversed(), stream(chain(*films)))
    first = run_stage(FirstOnly(), stream(chain(*films)))

    assert [item.index for item in backwards if not isinstance(item, End)] == [2, 1, 0, 2, 1, 0]
    assert [type(item) for item in first] == [Frame, End, Frame, End]


def test_a_gather_makes_one_result_of_all_units() -> None:
    assert run_stage(Count(), stream(make_frames(7))) == [7]


class Reader(Source):
    """Reads five synthetic frames per unit; the third frame of bad.mkv can't be read."""

    def units(self) -> Iterator[Unit]:
        yield from ()

    def read(self, unit: Unit, context: int) -> Iterator[Frame]:
        for frame in make_frames(5, film=True):
            if frame.index == 2 and unit.media.name.name == "bad.mkv":
                raise MediaError("it can't be read")
            yield replace(frame, unit=unit, context=context > 0 and frame.index == 0)


def units(*names: str, film: bool) -> list[Unit]:
    return [make_frames(1, film=film, name=name)[0].unit for name in names]


@pytest.mark.parametrize("film", [False, True])
def test_a_source_ends_each_unit_with_its_error_and_continues(film: bool) -> None:
    run = RunContext()

    output = list(execute_source(Reader(workers=2), units("a.mkv", "bad.mkv", "c.mkv", film=film), 0, run, Meter()))

    assert [str(item.error) for item in output if isinstance(item, End)] == ["None", "it can't be read", "None"]
    assert len(output) == 5 + 1 + 2 + 1 + 5 + 1


def test_a_film_that_failed_later_in_the_graph_is_not_read_to_its_end() -> None:
    run = RunContext()
    reading = execute_source(Reader(), units("a.mkv", film=True), 0, run, Meter())

    run.fail(next(reading).unit, MediaError("a later stage says so"))

    assert [type(item) for item in reading] == [End]


def test_exceeding_max_errors_stops_the_run() -> None:
    run = RunContext(max_errors=1)
    run.fail(make_frames(1, name="a.png")[0].unit, MediaError("first"))

    with pytest.raises(TooManyErrors, match=r"stopped: 2 files failed \(limit 1\)"):
        run.fail(make_frames(1)[0].unit, MediaError("second"))


class Lister(Sink):
    """Writes each frame's index into a text file; a frame with the note `bad` can't be written."""

    path: Path

    @property
    def folder(self) -> Path:
        return self.path

    def target(self, unit: Unit) -> Path:
        return self.path / unit.media.name.with_suffix(".txt")

    def open(self, unit: Unit) -> None:
        self._lines(unit).write_text("")

    def write(self, frame: Frame) -> None:
        if frame.notes.get("bad"):
            raise MediaError("it can't be written")
        with self._lines(frame.unit).open("a") as file:
            file.write(f"{frame.index}\n")

    def commit(self, unit: Unit) -> AtomicFile:
        output = AtomicFile(self.target(unit), self.path)
        output.path.write_text(self._lines(unit).read_text())
        self.abandon(unit)
        return output

    def abandon(self, unit: Unit) -> None:
        self._lines(unit).unlink(missing_ok=True)

    def _lines(self, unit: Unit) -> Path:
        return self.path / f"{unit.media.name}.open"


def written(path: Path, items: Iterator[Frame | End], run: RunContext | None = None) -> dict[str, str]:
    sink = Lister(path=path, workers=2)
    units = execute_sink(
        sink,
        items,
        wanted=lambda unit: unit.name.name != "other.mkv",
        keep=lambda unit, file: file.publish(),
        run=run or RunContext(),
        meter=Meter(),
    )
    list(units)
    return {str(file.name): file.read_text() for file in path.iterdir() if file.is_file()}


def test_a_sink_writes_only_wanted_units_and_no_context_frames(tmp_path: Path) -> None:
    frames = [replace(frame, context=frame.index in {0, 4}) for frame in make_frames(5, film=True, name="a.mkv")]

    output = written(tmp_path, stream(frames + make_frames(2, film=True, name="other.mkv") + make_frames(3)))

    assert output == {"a.txt": "1\n2\n3\n", "made.txt": "0\n", "made-1.txt": "0\n", "made-2.txt": "0\n"}


def test_a_unit_without_its_end_or_with_an_error_is_abandoned(tmp_path: Path) -> None:
    a, b, c = (make_frames(3, film=True, name=f"{name}.mkv") for name in "abc")
    c[1] = replace(c[1], notes={"bad": True})
    run = RunContext()

    output = written(tmp_path, iter([*a, End(a[0].unit, MediaError("cut")), *c, End(c[0].unit), *b]), run)

    assert output == {}
    assert [str(error) for error in run.failures.values()] == ["cut", "it can't be written"]


def test_a_unit_without_frames_fails(tmp_path: Path) -> None:
    run = RunContext()

    assert written(tmp_path, iter([End(make_frames(1)[0].unit)]), run) == {}
    assert [str(error) for error in run.failures.values()] == ["none of its frames could be written"]


def test_a_missing_output_folder_aborts_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunAborted, match="the output folder is gone"):
        written(tmp_path / "gone", stream(make_frames(1)))


class Clock(local):
    """A clock of each thread, on which little time passes by itself."""

    now = 0.0

    def read(self) -> float:
        self.now += 1e-6
        return self.now


def test_busy_time_excludes_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for module in (executors, timing):
        monkeypatch.setattr(module, "perf_counter", clock.read)

    def slow() -> Iterator[Frame | End]:
        for item in stream(make_frames(4, film=True)):
            clock.now += 1
            yield item

    for stage in (MarkSeen(), Reversed(), BatchSize(batch=2), Count()):
        meter = Meter()
        list(execute(stage, slow(), RunContext(), meter))
        assert 0 < meter.busy < 0.01


def test_luma_is_unchanged() -> None:
    frames = make_frames(3)

    for frame, output in zip(frames, run_stage(MarkSeen(), stream(frames))[::2], strict=True):
        assert_array_equal(output.luma, frame.luma)
