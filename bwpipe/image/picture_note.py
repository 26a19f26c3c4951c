"""What is noted of a picture when it is written: how sure the network was, and whether its own colours were kept."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from bwpipe.core.frame import Frame
from bwpipe.core.json_text import parse_json
from bwpipe.core.provenance import KEPT


@dataclass(frozen=True, slots=True)
class PictureNote:
    """The note on a picture.

    Attributes:
        confidence: Mean confidence of the network, 0..1; None if it does not report it.
        kept: Whether the picture kept its own colours.
    """

    confidence: float | None = None
    kept: bool = False

    @classmethod
    def of(cls, frame: Frame) -> "PictureNote":
        """The note on a frame that is written."""
        sure = None if frame.confidence is None else float(frame.confidence.mean(dtype=np.float32))
        return cls(sure, KEPT in frame.notes)

    @classmethod
    def read(cls, texts: Sequence[str]) -> "PictureNote":
        """The note that a text stands for; an empty one for what earlier versions wrote."""
        with suppress(ValueError, TypeError, AttributeError):
            found = parse_json(texts[0]) if texts and texts[0] else {}
            sure = found.get("confidence")
            return cls(None if sure is None else float(sure), bool(found.get("kept")))
        return cls()

    @property
    def text(self) -> str:
        """As stored in the ledger."""
        return json.dumps({"confidence": self.confidence, "kept": self.kept})

    @property
    def doubt(self) -> float:
        """How little confidence there is, 0..1; 0 if it is not known."""
        return 0.0 if self.confidence is None else 1 - self.confidence

    def to_json(self) -> dict[str, Any]:
        """The fields of its event in `report.jsonl`."""
        sure = None if self.confidence is None else round(self.confidence, 4)
        return {"confidence": sure, "doubt": round(self.doubt, 4), "kept": self.kept}
