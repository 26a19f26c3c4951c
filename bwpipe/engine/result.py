"""What came of a run."""

from dataclasses import dataclass, field
from pathlib import Path

from bwpipe.core.console import printable
from bwpipe.engine.timing import Meter, table

SHOWN = 10
"""How many of the sinks' lines are shown at the end."""


@dataclass(slots=True)
class RunResult:
    """What came of a run.

    Attributes:
        done: How many files were finished by it.
        already: How many were done before.
        kept: Files that bwpipe did not write and left as they are.
        failed: Each file that failed, and why.
        left_out: How many files were left out on purpose, by reason.
        seconds: How long it took.
        meters: The work of each stage, by its id in the graph.
        remarks: What was warned of, and of how many files or frames it holds.
        lines: What sinks reported of the files that were finished by it, such as a film's flicker before and after.
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

    @property
    def exit_code(self) -> int:
        """0 if everything is done, 1 if a file failed."""
        return 1 if self.failed else 0

    def __str__(self) -> str:
        """The closing table, what sinks reported, what was left out, repeated warnings, and a line of counts."""
        counts = {"done": self.done, "done already": self.already, "kept": len(self.kept), "failed": len(self.failed)}
        said = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "done")
        often = [f"{count} times: {text}" for text, count in self.remarks.items() if count > 1]
        tables = [table(self.meters)] if any(meter.items for meter in self.meters.values()) else []
        dropped = ", ".join(f"{count} {why}" for why, count in self.left_out.items())
        left_out = [f"left out: {dropped}"] if dropped else []
        more = len(self.lines) - SHOWN
        lines = [
            *map(printable, self.lines[:SHOWN]),
            *([f"and {more} more lines like these; report.jsonl has all"] if more > 0 else []),
        ]
        return "\n".join([*tables, *lines, *left_out, *often, f"{said} in {self.seconds:.1f} s"])
