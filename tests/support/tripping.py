"""A graph whose run can be killed, and which looks at a film before its first segment: for tests of runs in several pieces."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.made_films import MKV, make_film
from tests.support.made_photos import write_photos

PICTURES, FRAMES = 9, 70
TRIP = '''
"""A stage that kills the run, or counts first passes, and segments that share no decoder, for this test."""

import os
import random
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bwpipe import Frame, Map, NoEffect, RunContext, Unit, stage
from bwpipe.core import segments
from bwpipe.core.first_pass import FirstPass, TwoPassMap

segments.SHARED_DECODER_FRAMES = 20


@stage("trip-NAME")
class Trip(Map):
    """Kills the process at a frame."""

    at: NoEffect[int] = -1

    def apply(self, frame: Frame) -> Frame:
        if frame.index == self.at and not frame.context:
            os.kill(os.getpid(), signal.SIGKILL)
        return frame


@stage("counted-NAME")
class Counted(TwoPassMap):
    """Writes a line for each first pass that it makes."""

    log: NoEffect[str]

    def setup(self, run: RunContext) -> None:
        run.remember("measured", lambda: random.random())

    def first_passes(self, unit: Unit, instances: Mapping[str, Sequence[range]]) -> list[FirstPass]:
        return [FirstPass((0, 30))] if unit.media.has_segments else []

    def collect(self, unit: Unit, wanted: FirstPass, items: Iterator[Any]) -> bytes:
        with Path(self.log).open("a") as file:
            file.write(f"{unit.name}\\n")
        return bytes(len(list(items)))

    def use(self, unit: Unit, kept: Mapping[str, bytes], units: int) -> None:
        assert len(kept[""]) == 2

    def apply(self, items: Iterator[Frame]) -> Iterator[Frame]:
        yield from items
'''


def make_inputs(folder: Path) -> None:
    """Write pictures, a film of four segments, and the plug-in, whose stages have the folder's name in theirs."""
    write_photos(folder / "in" / "pictures", PICTURES)
    make_film(folder / "in" / "film.mkv", replace(MKV, size=(48, 32), times=range(0, 40 * FRAMES, 40)))
    (folder / "trip").mkdir()
    (folder / "trip" / "trip.py").write_text(TRIP.replace("NAME", folder.name))


def tripping_graph(folder: Path, out: Path, *, trip: int = -1, **settings: Any) -> dict[str, Any]:
    chain = [
        {"use": "read", "path": str(folder / "in")},
        {"use": "grayscale"},
        {"use": f"trip-{folder.name}", "id": "trip", "at": trip},
        {"use": "shots"},
        {"use": f"counted-{folder.name}", "id": "counted", "log": str(out) + ".log"},
        {"use": "write", "path": str(out), "codec": "ffv1", "threads": 1},
    ]
    return {"plugins": [str(folder / "trip")], "segment": 20, **settings, "stages": chain}


def contents(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file() and ".bwpipe" not in path.parts)
    return {str(path.relative_to(out)): path.read_bytes() for path in files}
