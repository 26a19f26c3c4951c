"""A stage that paints, for the tests of numbered frames."""

from pathlib import Path

import pytest

PLUGIN = '''
"""A stage that paints."""

from dataclasses import replace

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
'''


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stage `paint_reel`."""
    folder = tmp_path_factory.mktemp("plugins_of_reels")
    (folder / "paint_reel.py").write_text(PLUGIN)
    return folder
