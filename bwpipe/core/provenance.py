"""What the metadata of an output say of how it was made: a line that people and programs can read.

It begins with a sentence, "Colour added by bwpipe 0.1.0, network autoencoder, weights 1f2e...", and ends with JSON: the
version, and of each stage on the way what its result depends on.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEPT = "colour kept"
"""The note on a frame whose own colour is kept, so that nobody says that it was added."""
NETWORK = "network"
"""In what a stage tells: the name of the network whose colours it adds."""
LUMA = "luma"
"""In what a stage tells: why it changes luma, in a word."""
_COMMENT = "comment"
_LINE = re.compile(r"(?:Colour added|Written) by bwpipe [^{\n]*(\{.*\})")


@dataclass(frozen=True, slots=True)
class Provenance:
    """How an output was made.

    Attributes:
        version: bwpipe's.
        stages: What each stage told of itself, from the source to the sink, see `bwpipe.core.stage.Stage.provenance`.
    """

    version: str
    stages: tuple[Mapping[str, Any], ...]

    @property
    def luma(self) -> list[str]:
        """Why the luma is another than what was read, in a word each: what was asked for; none where it is the same."""
        return [str(stage[LUMA]) for stage in self.stages if stage.get(LUMA)]

    @property
    def deinterlaced(self) -> bool:
        """Whether the frames of an interlaced film were made frames of one moment, which `read` does to the same luma again."""
        return any(stage.get("deinterlace", "off") not in ("off", False) for stage in self.stages)

    @property
    def frames(self) -> int | None:
        """How many frames of a film were asked for; None for all."""
        return self._asked("frames")

    @property
    def picture(self) -> int | None:
        """Which picture of a film with several was asked for, counted from 1; None for the one that is marked so."""
        return self._asked("picture")

    def _asked(self, option: str) -> int | None:
        """A number of 1 or more that an option of `read` had."""
        numbers = [stage.get(option) for stage in self.stages if stage.get("stage") == "read"]
        return next((number for number in numbers if isinstance(number, int) and number > 0), None)

    def line(self, *, coloured: bool = True) -> str:
        """The line, in ASCII; `coloured` is False for a picture that kept its own colours."""
        stages = [dict(stage) for stage in self.stages if coloured or NETWORK not in stage]
        told = json.dumps({"bwpipe": self.version, "stages": [_said(stage) for stage in stages]})
        networks = [stage for stage in stages if NETWORK in stage]
        if not networks:
            return f"Written by bwpipe {self.version} {told}"
        names = ", ".join(f"network {stage[NETWORK]}, weights {stage.get('weights', 'unknown')}" for stage in networks)
        return f"Colour added by bwpipe {self.version}, {names} {told}"


def add_note(tags: Mapping[str, str], line: str) -> dict[str, str]:
    """A film's tags with the line in its comment, which MP4 and Matroska both keep; what was there is kept above it."""
    key = next((key for key in tags if key.lower() == _COMMENT), _COMMENT)
    return {**tags, key: append_line(tags.get(key, ""), line)} if line else dict(tags)


def read_note(tags: Mapping[str, str]) -> tuple[dict[str, str], Provenance | None]:
    """A film's tags without the line that was added last, and what it says."""
    for key, text in tags.items():
        if key.lower() == _COMMENT:
            before, provenance = split_note(text)
            return {**tags, key: before}, provenance
    return dict(tags), None


def append_line(text: str, line: str) -> str:
    """A text that was there, which is kept, and the line below it."""
    return f"{text}\n{line}" if text else line


def split_note(text: str) -> tuple[str, Provenance | None]:
    """What stood in a text before the last line was added, and what that line says; None if it is none of ours."""
    before, _, last = text.rpartition("\n")
    found = _LINE.fullmatch(last)
    if not found:
        return text, None
    try:
        told = json.loads(found[1])
        return before, Provenance(str(told["bwpipe"]), tuple(dict(stage) for stage in told["stages"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return text, None


def _said(stage: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth a word: options that were left open are not."""
    return {key: value for key, value in stage.items() if value is not None and value != {}}
