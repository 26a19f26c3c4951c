"""Stages that make pictures up, wait, and write a byte for each: a plug-in for `bench.many_units`."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from time import sleep
from typing import Any

import numpy as np

from bwpipe import Frame, Map, NoEffect, Sink, Source, Unit, stage
from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.fingerprint import FileStamp
from bwpipe.core.frame import Media

_GREY = np.zeros((8, 8), np.uint8)
_STAMP = FileStamp(1, 1, 1, 1)


class Imagined(Media):
    """A picture that is in no file."""

    def stamp(self, start: int = 0, stop: int | None = None, *, again: bool = True) -> FileStamp:
        """The same for all."""
        return _STAMP

    def digest(self, stamp: FileStamp, tick: Any = None) -> str:
        """The same for all."""
        return "0"


@stage("imagine")
class Imagine(Source):
    """Makes pictures up."""

    count: NoEffect[int]

    def units(self) -> Iterator[Unit]:
        """As many units as were asked for."""
        for number in range(self.count):
            name = PurePosixPath(f"{number // 1000:04}/{number:07}.png")
            yield Unit(Imagined(path=Path("/imagined") / name, name=name, width=8, height=8))

    def read(self, unit: Unit, context: int) -> Iterator[Frame]:
        """One grey frame."""
        yield Frame(_GREY, unit)


@stage("rest")
class Rest(Map):
    """Waits, as for a network on another machine."""

    seconds: NoEffect[float] = 0.0

    def apply(self, frame: Frame) -> Frame:
        """The same frame, later."""
        sleep(self.seconds)
        return frame


@stage("note")
class Note(Sink):
    """Writes a byte for each picture."""

    path: NoEffect[Path]

    @property
    def folder(self) -> Path:
        """The output folder."""
        return self.path.resolve()

    def target(self, unit: Unit) -> Path:
        """A file for each unit."""
        return self.folder / unit.name

    def write(self, frame: Frame) -> None:
        """Nothing is kept."""

    def commit(self, unit: Unit) -> AtomicFile:
        """One byte."""
        file = AtomicFile(self.target(unit), self.folder)
        file.path.write_bytes(b"0")
        return file
