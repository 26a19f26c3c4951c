"""The result of a run."""

from dataclasses import dataclass, field
from pathlib import Path

from bwpipe.core.console import printable
from bwpipe.engine.timing import Meter, table

MAX_LINES = 10
"""Number of the sinks' lines that are shown at the end."""


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

    @property
    def exit_code(self) -> int:
        """0 if everything is done, 1 if a file failed."""
        return 1 if self.failed else 0

    def __str__(self) -> str:
        """The summary: timing table, what sinks reported, excluded files, repeated warnings, and a line of counts."""
        counts = {"done": self.done, "done already": self.already, "kept": len(self.kept), "failed": len(self.failed)}
        summary = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "done")
        repeated = [f"{count} times: {text}" for text, count in self.remarks.items() if count > 1]
        tables = [table(self.meters)] if any(meter.items for meter in self.meters.values()) else []
        dropped = ", ".join(f"{count} {why}" for why, count in self.left_out.items())
        left_out = [f"left out: {dropped}"] if dropped else []
        more = len(self.lines) - MAX_LINES
        lines = [
            *map(printable, self.lines[:MAX_LINES]),
            *([f"and {more} more lines like these; report.jsonl has all"] if more > 0 else []),
        ]
        return "\n".join([*tables, *lines, *left_out, *repeated, f"{summary} in {self.seconds:.1f} s"])
