"""Only colour was added: the proof, for each file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bwpipe.core.console import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far luma may be moved by an output that is coded with losses. A lossless one must not move it at all.

    A JPEG that was made of a JPEG has limits of its own, `bwpipe.picture.jpeg.MEAN_DIFFERENCE` and `LARGEST_DIFFERENCE`.

    Attributes:
        block: The most by which the mean of any 16x16 block may differ, in code values of 8 bits.
        psnr: The least PSNR of the luma of any frame, in dB.
        exact: Let no luma sample differ, however the output is coded.
    """

    block: float = 4.0
    psnr: float = 36.0
    exact: bool = False


@dataclass(slots=True)
class Verdict:
    """What came of comparing an output with its input.

    Attributes:
        input, output: The files.
        kind: "picture" or "film".
        facts: What was found, part by part, as JSON can hold it.
        differences: What is not as it should be, a sentence each; none if only colour was added.
        remarks: What is to be known and no difference, such as luma that was changed on request.
    """

    input: Path
    output: Path
    kind: str
    facts: dict[str, Any] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "input": printable(str(self.input)),
            "output": printable(str(self.output)),
            "kind": self.kind,
            "same": not self.differences,
            "differences": self.differences,
            "remarks": self.remarks,
            **self.facts,
        }

    def lines(self, *, quiet: bool = False) -> list[str]:
        """It in lines: one of figures, one for each remark, one for each difference; only the latter if `quiet`."""
        wrong = [f"{self.output}: difference: {text}" for text in self.differences]
        if quiet:
            return wrong
        figures = ", ".join(filter(None, (_said(part, facts) for part, facts in self.facts.items())))
        count = len(self.differences)
        end = f"{count} difference{'s' * (count > 1)}" if count else "only colour was added"
        first = ": ".join(filter(None, (str(self.output), figures, end)))
        return [first, *(f"{self.output}: note: {text}" for text in self.remarks), *wrong]


def _said(part: str, facts: Any) -> str:
    """A part of the facts in a few words."""
    match part:
        case "frames":
            return f"{facts['output']} of {facts['input']} frames"
        case "times":
            return f"{facts['exact']} times exact" + (f", {facts['rounded']} rounded" if facts["rounded"] else "")
        case "luma" if facts["frames"]:
            worst = f"worst frame {facts['worst_frame']}: " if facts["frames"] > 1 else ""
            end = f" ({worst}{facts['psnr']:.1f} dB)" if facts["max"] else ""
            return f"luma difference {facts['mean']:.2g} on average, {facts['max']} at most{end}"
        case "streams":
            return f"{facts['kept']} of {facts['input']} other streams" if facts["input"] else ""
        case "chapters":
            return f"{facts['output']} of {facts['input']} chapters" if facts["input"] else ""
        case _:
            return ""
