"""The engine runs graphs over any medium, here poems, without importing a module about images."""

import subprocess
import sys
from pathlib import Path

POEMS = """
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from pydantic import PrivateAttr

from bwpipe import BatchMap, Map, Media, MediaError, NoEffect, Sink, Source, Unit, UnitMap, stage
from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.inputs import find_files
from bwpipe.core.summary import Summary
from bwpipe.engine.run import run_graph
from bwpipe.graph.graph import Graph
from bwpipe.graph.node import Node


class Poem(Media):
    kind: ClassVar[str] = "poem"
    has_segments: ClassVar[bool] = True


@dataclass(frozen=True)
class Line:
    text: str
    unit: Unit
    index: int
    context: bool = False


@stage("read_poems")
class ReadPoems(Source):
    path: NoEffect[str]

    def units(self) -> Iterator[Unit]:
        for path, name in find_files(self.path):
            yield Unit(Poem(path=path, name=name, frames=len(path.read_text().splitlines())))

    def read(self, unit: Unit, context: int) -> Iterator[Line]:
        lines = unit.path.read_text().splitlines()
        start, stop = unit.start, len(lines) if unit.stop is None else unit.stop
        for index in range(max(0, start - context), min(len(lines), stop + context)):
            if lines[index] == "???":
                raise MediaError(f"line {index + 1} can't be read")
            yield Line(lines[index], unit, index, context=not start <= index < stop)


@stage("rhyme")
class Rhyme(UnitMap):
    @property
    def context(self) -> int:
        return 1

    def apply(self, items: Iterator[Line]) -> Iterator[Line]:
        previous = None
        for line in items:
            rhymes = previous is not None and previous.text[-2:] == line.text[-2:]
            yield replace(line, text=line.text + " *" if rhymes else line.text)
            previous = line


@stage("shout")
class Shout(BatchMap):
    def apply(self, items: list[Line]) -> list[Line]:
        return [replace(line, text=line.text.upper()) for line in items]


@stage("number")
class Number(Map):
    def apply(self, item: Line) -> Line:
        return replace(item, text=f"{item.index}: {item.text}")


@stage("write_poems")
class WritePoems(Sink):
    path: NoEffect[Path]
    _open: dict[Unit, list[str]] = PrivateAttr(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.path.resolve()

    def target(self, unit: Unit) -> Path:
        return self.folder / unit.name

    def open(self, unit: Unit) -> None:
        self._open[unit] = []

    def write(self, item: Line) -> None:
        self._open[item.unit].append(item.text)

    def commit(self, unit: Unit) -> AtomicFile:
        lines = self._open.pop(unit)
        file = AtomicFile(self.fragment(unit), self.folder)
        file.path.write_text("".join(f"{line}\\n" for line in lines))
        file.notes = str(len(lines))
        return file

    def abandon(self, unit: Unit) -> None:
        self._open.pop(unit, None)

    def assemble(self, unit: Unit, fragments: Sequence[Path]) -> AtomicFile:
        file = AtomicFile(self.target(unit), self.folder)
        file.path.write_text("".join(path.read_text() for path in fragments))
        return file

    def summary(self, unit: Unit, notes: Sequence[str]) -> Summary:
        return Summary(lines=(f"{unit.name}: {sum(map(int, notes))} lines in {len(notes)} parts",))


stages = [ReadPoems(path=sys.argv[1]), Rhyme(), Shout(batch=3), Number(), WritePoems(path=sys.argv[2])]
names = [each.registered for each in stages]
nodes = [Node(name, each, names[i - 1] if i else None, name) for i, (name, each) in enumerate(zip(names, stages))]
print(run_graph(Graph(nodes, segment=2), quiet=True))
rooms = ("image", "video", "motion", "nn", "pixels", "metrics", "data", "losses", "training", "verify", "stages.", "models.")
domain = (*(f"bwpipe.{room}" for room in rooms), "torch", "av", "cv2")
print([name for name, module in sys.modules.items() if name.startswith(domain) and hasattr(module, "__file__")])
"""


def test_poems_are_read_in_segments_processed_in_batches_and_joined(tmp_path: Path) -> None:
    (tmp_path / "poems").mkdir()
    (tmp_path / "poems" / "short.txt").write_text("a cat\na hat\nno\nso\nlast\n")
    (tmp_path / "poems" / "torn.txt").write_text("one\ntwo\nthree\nfour\n???\n")
    command = [sys.executable, "-c", POEMS, str(tmp_path / "poems"), str(tmp_path / "out")]

    completed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)

    assert (tmp_path / "out" / "short.txt").read_text() == "0: A CAT\n1: A HAT *\n2: NO\n3: SO\n4: LAST\n"
    assert not (tmp_path / "out" / "torn.txt").exists()
    assert "short.txt: 5 lines in 3 parts" in completed.stdout
    assert "torn.txt: frames 2 to 3: line 5 can't be read" in completed.stderr
    assert completed.stdout.splitlines()[-1] == "[]"
