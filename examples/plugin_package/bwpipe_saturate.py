"""The `saturate` stage."""

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from bwpipe import Frame, Map, stage


@stage("saturate")
class Saturate(Map):
    """Makes colours stronger or weaker: chroma (2, h, w) is multiplied and kept within -0.5..0.5; luma stays."""

    factor: Annotated[float, Field(ge=0, le=10)] = 1.2
    """How much stronger: 1 changes nothing, 0 leaves grey."""

    def apply(self, frame: Frame) -> Frame:
        """Change the chroma of one frame, if it has any."""
        if frame.chroma is None:
            return frame
        chroma = np.clip(frame.chroma * np.float16(self.factor), -0.5, 0.5)
        return replace(frame, chroma=chroma)
