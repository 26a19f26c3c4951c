"""The `invert` stage."""

from dataclasses import replace
from typing import Any

from bwpipe import Frame, Map, Unit, stage
from bwpipe.core.provenance import LUMA


@stage("invert")
class Invert(Map):
    """Turns a negative into a positive: luma (H, W) is mirrored in the media's levels."""

    def apply(self, frame: Frame) -> Frame:
        """Mirror the luma of one frame."""
        low, high = frame.unit.media.levels
        luma = frame.luma.clip(low, high)
        return replace(frame, luma=low + high - luma)

    def provenance(self, unit: Unit | None = None) -> dict[str, Any]:
        """Outputs state that their luma is not the input's."""
        return {**super().provenance(unit), LUMA: "invert"}
