"""The result of a run."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bwpipe.core.console import as_typed, printable
from bwpipe.engine.timing import Meter, table

MAX_LINES = 10
"""Number of the sinks' lines, and of failed files, that are shown at the end."""


@dataclass(slots=True)
class RunResult:
    """The result of a run.

    Attributes:
        done: Number of files that it finished.
        already: Number of files that were done before.
        kept: Files that bwpipe did not write and left unchanged.
        failed: Each file that failed, and why.
        left_out: Number of files excluded on purpose, by reason.
        seconds: Duration of the run.
        meters: Work of each stage, by its id in the graph.
        remarks: Warnings, with the number of times each occurred.
        lines: What sinks reported about the finished files, such as a film's flicker before and after.
        outdated: Those of the files done before that this version of bwpipe would write differently.
        outputs: The files that it finished, absolute, in the order in which they were.
        inputs: The files that these were made from, in the same order.
        kinds: Number of files that it finished, by kind: "picture" or "film".
        folders: The output folders, absolute.
        segments: Number of segments of films that it finished.
        share: The share of the work that it did, such as "0/3"; None for all.
        workers: Work of each worker of a cluster, by its name: items that it wrote, and seconds for which it was busy.
    """

    done: int = 0
    already: int = 0
    kept: list[Path] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    meters: dict[str, Meter] = field(default_factory=dict)
    remarks: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    outdated: list[Path] = field(default_factory=list)
    outputs: list[Path] = field(default_factory=list)
    inputs: list[Path] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)
    segments: int = 0
    share: str | None = None
    workers: dict[str, Meter] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 if everything is done, 1 if a file failed."""
        return 1 if self.failed else 0

    def __str__(self) -> str:
        """The summary with the timing table."""
        return self.summary()

    def summary(self, *, timings: bool = True) -> str:
        """The closing lines: what sinks reported, excluded and failed files, repeated warnings, counts and output folders.

        `timings` says whether they begin with the table of how long each stage was busy.
        """
        tables = [table(self.meters)] if timings and any(meter.items for meter in self.meters.values()) else []
        tables += [table(self.workers, of="worker")] if timings and self.workers else []
        dropped = ", ".join(f"{count} {why}" for why, count in self.left_out.items())
        left_out = [f"left out: {dropped}"] if dropped else []
        failed = [f"failed: {path}: {why}" for path, why in self.failed.items()]
        repeated = [f"{count} times: {text}" for text, count in self.remarks.items() if count > 1]
        there = self.folders if self.done or self.already or self.segments else []
        places = f"; the outputs are in {', '.join(map(as_typed, there))}" if there else ""
        if there and self.done:
            places += f"; `{shlex.join(['bwpipe', 'report', as_typed(there[0])])}` shows them"
        return "\n".join(
            [
                *tables,
                *_first(self.lines),
                *left_out,
                *_first(failed),
                *repeated,
                f"{f'share {self.share}: ' if self.share else ''}{self._counts()} in {self.seconds:.1f} s{places}",
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON; `bwpipe.tools.json_fields.RESULT` says what each field is."""
        return {
            "done": self.done,
            "kinds": dict(self.kinds),
            "already": self.already,
            "outputs": list(map(str, self.outputs)),
            "inputs": list(map(str, self.inputs)),
            "folders": list(map(str, self.folders)),
            "segments": self.segments,
            "share": self.share,
            "kept": list(map(str, self.kept)),
            "outdated": list(map(str, self.outdated)),
            "failed": {str(path): why for path, why in self.failed.items()},
            "left_out": dict(self.left_out),
            "remarks": dict(self.remarks),
            "lines": list(self.lines),
            "seconds": round(self.seconds, 3),
            "stages": {name: {"items": meter.items, "busy_s": round(meter.busy, 3)} for name, meter in self.meters.items()},
            "workers": {name: {"items": meter.items, "busy_s": round(meter.busy, 3)} for name, meter in self.workers.items()},
        }

    def _counts(self) -> str:
        """The number of files by what became of them: "5 pictures and 1 film done, 2 done already"."""
        kinds = " and ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in sorted(self.kinds.items(), reverse=True))
        if self.share and self.segments:
            films = f"{self.segments} segment{'s' * (self.segments > 1)} of films"
            kinds = f"{kinds} and {films}" if kinds else films
        counts = {"done already": self.already, "kept": len(self.kept), "failed": len(self.failed)}
        return ", ".join([f"{kinds or self.done} done", *(f"{count} {what}" for what, count in counts.items() if count)])


def _first(lines: list[str]) -> list[str]:
    """The first lines, and how many more there are."""
    more = len(lines) - MAX_LINES
    return [
        *map(printable, lines[:MAX_LINES]),
        *([f"and {more} more lines like these; report.jsonl has all"] if more > 0 else []),
    ]
