"""The verdict on one file: whether only colour was added."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bwpipe.core.console import as_typed, printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Tolerated luma differences of a lossy output. A lossless output must not change luma at all.

    A JPEG written from a JPEG has its own limits, `MEAN_DIFFERENCE` and `LARGEST_DIFFERENCE` in `bwpipe.image.formats.jpeg`.

    Attributes:
        block: Largest difference of the mean of any 16x16 block, in 8-bit code values.
        psnr: Lowest luma PSNR of any frame, in dB.
        exact: Tolerate no difference, however the output is coded.
    """

    block: float = 4.0
    psnr: float = 36.0
    exact: bool = False


_LOSS = re.compile(r"\b(?:lost|can't|left out|missing|not (?:kept|copied|carried|read|written|decoded?)|did not|dropped)\b")
"""The words by which a warning announces a loss."""


@dataclass(slots=True)
class Verdict:
    """The result of comparing an output with its input.

    Attributes:
        input, output: The files.
        kind: "picture" or "film".
        facts: Findings by topic, as JSON-compatible data.
        differences: Unwanted differences, a sentence each; empty if only colour was added.
        remarks: Notable facts that are not unwanted differences, such as luma changed on request.
        said: The warnings of the run about this file: a loss that it announced is a remark.
        outdated: The stages of which an earlier revision wrote the output: "write 3, now 4"; empty if there are none.
    """

    input: Path
    output: Path
    kind: str
    facts: dict[str, Any] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    said: Sequence[str] = ()
    outdated: str = ""

    def lose(self, text: str, topic: str, count: int = 0) -> None:
        """Add a loss: a remark if the run announced it, else a difference.

        Args:
            text: The sentence.
            topic: A regular expression for what a warning that announces it mentions.
            count: How many are lost: the warning must state at least that number; 0 if it need not.
        """
        announced = any(
            re.search(topic, each, re.IGNORECASE)
            and _LOSS.search(each)
            and (not count or any(int(number) >= count for number in re.findall(r"\d+", each)))
            for each in self.said
        )
        (self.remarks if announced else self.differences).append(f"{text}, as the run announced" if announced else text)

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON-compatible data."""
        return {
            "input": printable(str(self.input)),
            "output": printable(str(self.output)),
            "kind": self.kind,
            "same": not self.differences,
            "differences": self.differences,
            "remarks": self.remarks,
            **({"outdated": self.outdated} if self.outdated else {}),
            **self.facts,
        }

    def lines(self, *, quiet: bool = False) -> list[str]:
        """The verdict as lines: one of figures, one per remark, one per difference; only the last if `quiet`.

        The differences of an outdated output are one line, which says so first.
        """
        texts = self.differences
        if texts and self.outdated:
            age = f"written by an earlier revision of bwpipe ({self.outdated}); `bwpipe run --update` writes it again"
            texts = [f"{age}: {', '.join(texts)}"]
        name = as_typed(self.output)
        differences = [f"{name}: difference: {text}" for text in texts]
        if quiet:
            return differences
        figures = ", ".join(filter(None, (_summary(topic, facts) for topic, facts in self.facts.items())))
        count = len(self.differences)
        end = f"{count} difference{'s' * (count > 1)}" if count else "only colour was added"
        first = ": ".join(filter(None, (name, figures, end)))
        return [first, *(f"{name}: note: {text}" for text in self.remarks), *differences]


def _summary(topic: str, facts: Any) -> str:
    """The facts on one topic in a few words."""
    match topic:
        case "frames":
            return f"{facts['output']} of {facts['input']} frames"
        case "times":
            return f"{facts['exact']} timestamps exact" + (f", {facts['rounded']} rounded" if facts["rounded"] else "")
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
