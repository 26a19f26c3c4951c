"""Stages that paint, for the tests of numbered frames."""

from pathlib import Path

import pytest

PLUGIN = '''
"""Stages that paint."""

from dataclasses import replace

import cv2
import numpy as np

from bwpipe import Frame, Map, stage


@stage("paint_reel")
class Paint(Map):
    """Paints each frame in one colour that depends on its number."""

    def apply(self, frame: Frame) -> Frame:
        """Chroma of one value."""
        chroma = np.full((2, 4, 6), 0.02, np.float16)
        chroma[1] += np.float16(0.1 + 0.01 * (frame.index % 7))
        return replace(frame, chroma=chroma)


@stage("tint_reel")
class Tint(Map):
    """Colours each frame by what networks see of it, unsteadily."""

    def apply(self, frame: Frame) -> Frame:
        """Chroma (2, 16, 24)."""
        seen = cv2.resize(frame.guide, (24, 16), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        chroma = np.stack([seen - 0.5, 0.5 - seen]) * (0.3 + 0.02 * (frame.index % 3))
        return replace(frame, chroma=chroma.astype(np.float16))
'''


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stages `paint_reel` and `tint_reel`."""
    folder = tmp_path_factory.mktemp("plugins_of_reels")
    (folder / "paint_reel.py").write_text(PLUGIN)
    return folder
