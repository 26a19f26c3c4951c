"""Where the shots of films begin, found before a run by the stages that find them during it."""

import json
from bisect import bisect_right, insort
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from bwpipe.core.context import RunContext
from bwpipe.core.frame import End, Media, Motion, Unit
from bwpipe.core.segments import frame_range
from bwpipe.core.stage import Map, Source, Stage, UnitMap
from bwpipe.engine.executors import execute, execute_source
from bwpipe.engine.recipes import PathRecipes, path_to
from bwpipe.engine.scan_cache import SqliteScanCache
from bwpipe.engine.timing import Meter
from bwpipe.graph.graph import Graph

MOTION = "motion"
"""What the stage provides that finds shots."""
_AROUND = 250
"""Frames before and after a frame in which the borders of its shot are first looked for."""


class ShotFinder:
    """Finds the shots of films: a function of the film and of the options of the stages down to the one that finds shots.

    What it finds is kept in the ledgers with other scans, as are the shots of each film that a run has finished.
    """

    def __init__(self, graph: Graph, scans: SqliteScanCache) -> None:
        """Prepare it; nothing is read yet."""
        self._scans = scans
        self._graph = graph
        self._node = next((node.id for node in graph.nodes if MOTION in node.stage.provides), None)
        self._whole: dict[Media, Unit] = {}
        self._found: dict[Media, Sequence[range]] = {}
        self._some: dict[Media, list[range]] = {}
        self._digests: dict[Media, str] = {}
        self._asked: set[Media] = set()

    def add(self, unit: Unit) -> None:
        """Take note of a film; of others nothing is found."""
        self._whole[unit.media] = unit

    def all(self, media: Media) -> Sequence[range]:
        """All shots of a film; if the graph has no stage that finds them, it is one."""
        known = self._known(media)
        if known is None:
            start, stop = self._range(media)
            found = self._scans.find(
                media.path,
                self._key(media),
                lambda: _to_bytes(self._cuts(media, start, stop)),
                lambda text: _ranges(json.loads(text), start, stop),
            )
            known = self._remember(media, found)
        return known

    def around(self, media: Media, index: int) -> range:
        """The shot that holds a frame."""
        known = self._known(media)
        if known is None:
            known = some = self._some.setdefault(media, [])
            if not any(index in shot for shot in some):
                shot = self._scans.find(
                    media.path,
                    f"{self._key(media)} at {index}",
                    lambda: json.dumps(self._borders(media, index)).encode(),
                    lambda text: range(*json.loads(text)),
                )
                insort(some, shot, key=lambda shot: shot.start)
        starts = [shot.start for shot in known]
        return known[max(bisect_right(starts, index) - 1, 0)]

    def keep(self, media: Media, starts: Sequence[int]) -> None:
        """Keep the shots that a run has found in a whole film, by the frames at which they start."""
        if self._node is not None and media in self._whole and starts:
            self._scans.put(media.path, self._key(media), _to_bytes(starts))
            self._remember(media, _ranges(starts, *self._range(media)))

    def _remember(self, media: Media, shots: Sequence[range]) -> Sequence[range]:
        self._found[media] = shots
        return shots

    def _known(self, media: Media) -> Sequence[range] | None:
        """All shots of a film, if that takes no search."""
        found = self._found.get(media)
        start, stop = self._range(media)
        if found is None and self._node is None:
            found = self._remember(media, [range(start, stop)])
        if found is None and media not in self._asked:
            self._asked.add(media)
            kept = self._scans.known(media.path, self._key(media), lambda text: _ranges(json.loads(text), start, stop))
            found = None if kept is None else self._remember(media, kept)
        return found

    def _range(self, media: Media) -> tuple[int, int]:
        start, stop = frame_range(self._whole.get(media) or Unit(media))
        return start, start if stop is None else stop

    def _key(self, media: Media) -> str:
        """What identifies the scan of a film: the stages and their options, and the files of frames."""
        if media not in self._digests:
            assert self._node is not None
            recipe = PathRecipes(self._graph, self._node).of_nothing(Unit(media))
            stamp = media.stamp(again=False) if media.has_frame_files else ""
            self._digests[media] = f"shots {recipe.digest} {self._range(media)} {stamp}"
        return self._digests[media]

    def _borders(self, media: Media, index: int) -> tuple[int, int]:
        """The first frame of the shot that holds a frame, and the one after its last."""
        first, end = self._range(media)
        size = _AROUND
        low, high = max(first, index - size), min(end, index + size)
        cuts = self._cuts(media, low, high)
        begins = [cut for cut in cuts if cut <= index]
        while not begins and low > first:
            size *= 2
            before, low = low, max(first, low - size)
            begins = self._cuts(media, low, before)
        ends = [cut for cut in cuts if cut > index]
        size = _AROUND
        while not ends and high < end:
            size *= 2
            after, high = high, min(end, high + size)
            ends = self._cuts(media, after, high)
        return max(begins, default=first), min(ends, default=end)

    def _cuts(self, media: Media, start: int, stop: int) -> list[int]:
        """The frames at which shots begin, from `start` to `stop`, excluded; none in what can't be read."""
        return [index for index, motion in self.motion(media, range(start, stop)) if motion.cut]

    def motion(self, media: Media, frames: range) -> Iterator[tuple[int, Motion]]:
        """The indices and the motion of consecutive frames; those that can't be read are missing."""
        if self._node is None:
            return
        unit = replace(self._whole.get(media) or Unit(media), start=frames.start, stop=frames.stop)
        source, *steps = map(_own, (node.stage for node in path_to(self._graph, self._node)))
        assert isinstance(source, Source)
        steps = [step for step in steps if isinstance(step, Map) or MOTION in step.provides]
        context = max((step.context for step in steps if isinstance(step, UnitMap)), default=0)
        run = RunContext(quiet=True)
        try:
            for step in (source, *steps):
                step.setup(run)
            items: Iterator[Any] = execute_source(source, [unit], context, run, Meter())
            for step in steps:
                items = execute(step, items, run, Meter())
            yield from ((each.index, each.motion) for each in items if not isinstance(each, End) and not each.context)
        finally:
            for step in (source, *steps):
                step.close()


def _own(stage: Stage) -> Stage:
    """Another instance of a stage with the same options, so that the one that a run uses stays as it is."""
    return type(stage).model_construct(_fields_set=stage.model_fields_set, **dict(stage))


def _ranges(starts: Sequence[int], first: int, stop: int) -> list[range]:
    """The shots that start at some frames, of a film's frames from `first` to `stop`, excluded."""
    borders = sorted({first, *(start for start in starts if first < start < stop), stop})
    return [range(*pair) for pair in pairwise(borders)] or [range(first, stop)]


def _to_bytes(starts: Sequence[int]) -> bytes:
    return json.dumps(list(starts)).encode()
