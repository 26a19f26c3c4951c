"""Provenance of an output: a line in its metadata that people and programs can read.

It starts with a sentence, "Colour added by bwpipe 0.1.0, network autoencoder, weights 1f2e...", and ends with JSON: the
version, and what the result of each stage depends on.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bwpipe.core.json_text import parse_json

KEPT = "colour kept"
"""The note on a frame that keeps its own colour, so that its metadata do not claim that colour was added."""
NETWORK = "network"
"""Key in a stage's provenance: the name of the network whose colour it adds."""
LUMA = "luma"
"""Key in a stage's provenance: why it changes luma, in a word. Also the note on a frame whose luma was computed from colour."""
LUMA_OF_COLOUR = "luma_of_colour"
"""The same where it changes the luma of files in colour only. In the metadata it becomes `LUMA`, or goes."""
_COMMENT = "comment"
_LINE = re.compile(r"(?:Colour added|Written) by bwpipe [^{\n]*(\{.*\})")


@dataclass(frozen=True, slots=True)
class Provenance:
    """How an output was produced.

    Attributes:
        version: The version of bwpipe.
        stages: Provenance of each stage, from the source to the sink; see `bwpipe.core.stage.Stage.provenance`.
    """

    version: str
    stages: tuple[Mapping[str, Any], ...]

    @property
    def luma(self) -> list[str]:
        """The options that make the luma differ from the input, in a word each; empty if it is unchanged."""
        return [str(stage[LUMA]) for stage in self.stages if stage.get(LUMA)]

    @property
    def deinterlaced(self) -> bool:
        """Whether `read` deinterlaced the frames, which reproduces the same luma if repeated."""
        return any(stage.get("deinterlace", "off") not in ("off", False) for stage in self.stages)

    @property
    def frames(self) -> int | None:
        """Requested number of frames of a video; None for all."""
        return self._read_option("frames")

    @property
    def picture(self) -> int | None:
        """Requested video stream of a file with several, counted from 1; None for the default one."""
        return self._read_option("picture")

    def _read_option(self, option: str) -> int | None:
        """The value of an option of `read`, if it is an integer of at least 1."""
        numbers = [stage.get(option) for stage in self.stages if stage.get("stage") == "read"]
        return next((number for number in numbers if isinstance(number, int) and number > 0), None)

    def line(self, *, coloured: bool = True, luma_of_colour: bool = False, also: str = "") -> str:
        """The line, in ASCII.

        Args:
            coloured: False for a file that kept its own colour.
            luma_of_colour: Whether the file's luma was computed from its colour.
            also: Why the sink changed the luma, in a word; empty if it did not.
        """
        stages = [_luma_claims(stage, luma_of_colour) for stage in self.stages if coloured or NETWORK not in stage]
        if also and stages:
            stages[-1][LUMA] = also
        record = json.dumps({"bwpipe": self.version, "stages": [_without_unset(stage) for stage in stages]})
        networks = [stage for stage in stages if NETWORK in stage]
        if not networks:
            return f"Written by bwpipe {self.version} {record}"
        names = ", ".join(f"network {stage[NETWORK]}, weights {stage.get('weights', 'unknown')}" for stage in networks)
        return f"Colour added by bwpipe {self.version}, {names} {record}"


def add_note(tags: Mapping[str, str], line: str) -> dict[str, str]:
    """Append the line to the comment in a video's tags, which MP4 and Matroska both preserve."""
    key = next((key for key in tags if key.lower() == _COMMENT), _COMMENT)
    return {**tags, key: append_line(tags.get(key, ""), line)} if line else dict(tags)


def read_note(tags: Mapping[str, str]) -> tuple[dict[str, str], Provenance | None]:
    """Split a video's tags into those without the last added line, and the provenance in that line."""
    for key, text in tags.items():
        if key.lower() == _COMMENT:
            before, provenance = split_note(text)
            return {**tags, key: before}, provenance
    return dict(tags), None


def append_line(text: str, line: str) -> str:
    """Append the line below an existing text."""
    return f"{text}\n{line}" if text else line


def split_note(text: str) -> tuple[str, Provenance | None]:
    """Split a text into what precedes the last line, and the provenance in that line; None if bwpipe did not write it."""
    before, _, last = text.rpartition("\n")
    found = _LINE.fullmatch(last)
    if not found:
        return text, None
    try:
        record = parse_json(found[1])
        return before, Provenance(str(record["bwpipe"]), tuple(dict(stage) for stage in record["stages"]))
    except (ValueError, KeyError, TypeError):
        return text, None


def _luma_claims(stage: Mapping[str, Any], luma_of_colour: bool) -> dict[str, Any]:
    """A stage's provenance with the changes of luma that took place, and no others."""
    own = dict(stage)
    claims = [own.pop(LUMA, None), own.pop(LUMA_OF_COLOUR, None) if luma_of_colour else None]
    own.pop(LUMA_OF_COLOUR, None)
    return {**own, LUMA: ", ".join(claim for claim in claims if claim) or None}


def _without_unset(stage: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's provenance without unset options."""
    return {key: value for key, value in stage.items() if value is not None and value != {}}
