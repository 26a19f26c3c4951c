"""What large pictures take, and that those for which the memory is not there are refused by their header."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bwpipe.pixels.chroma_upsampling import UpsampledChroma, upsample_chroma
from tests.image.test_write import saved

_OPEN = """
import resource, sys
from pathlib import Path, PurePosixPath
from bwpipe.errors import MediaError
from bwpipe.image.open import open_image

resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9, resource.RLIM_INFINITY))
try:
    open_image(Path(sys.argv[1]), PurePosixPath("scan"), max_pixels=10**9)
except MediaError as error:
    print(error)
"""
_PEAK = """
import sys
import numpy as np
from pathlib import Path, PurePosixPath
from bwpipe.core.frame import Unit
from bwpipe.image.open import open_image
from bwpipe.image.read import read_image
from bwpipe.image.write import target_format, write_image
from bwpipe.pixels.chroma_upsampling import UpsampledChroma

def done(name):
    media = open_image(Path(name), PurePosixPath("scan"), max_pixels=10**9)
    frame = read_image(Unit(media))
    small = np.full((2, 64, 80), 0.1, np.float16)
    chroma = UpsampledChroma(small, frame.luma, media.levels, media.matrix)
    write_image(Path(name + ".made"), frame, chroma, target=target_format(media), warn=print)

def peak():  # not of `getrusage`, which begins with the peak of the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

done(sys.argv[1])
before = peak()
done(sys.argv[2])
print(peak() - before)
"""


def output(script: str, *arguments: Path) -> str:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_picture_that_needs_more_memory_than_there_is_is_refused_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"P5 16000 15000 255\n")
    (tmp_path / "usual").write_bytes(b"P5 12000 10000 255\n")

    assert output(_OPEN, tmp_path / "large").strip() == (
        "has 16000x15000 = 240000000 pixels, which take about 2.9 GB of memory; bwpipe may use 3.0 GB here: give it more, or "
        "make the picture smaller"
    )
    assert output(_OPEN, tmp_path / "usual") == ""


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say what a process took at most")
@pytest.mark.parametrize(("form", "depth"), [("JPEG", 8), ("PNG", 8), ("TIFF", 16)])
def test_a_large_picture_takes_at_most_16_bytes_a_pixel(tmp_path: Path, form: str, depth: int) -> None:
    rows, columns = np.mgrid[:1600, :2500]
    luma = ((rows * columns) % (1 << depth)).astype(np.uint8 if depth == 8 else np.uint16)
    for name, samples in (("small", luma[:64, :80]), ("large", luma)):
        (tmp_path / name).write_bytes(saved(np.ascontiguousarray(samples), form))

    more = int(output(_PEAK, tmp_path / "small", tmp_path / "large"))

    assert 5 < more / luma.size < 16


@pytest.mark.parametrize("size", [(40, 50), (13, 97), (97, 31), (97, 131)], ids=str)
def test_chroma_in_bands_equals_chroma_in_one_piece(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    luma = rng.integers(0, 256, (97, 131), np.uint8)
    chroma = rng.uniform(-0.2, 0.2, (2, *size)).astype(np.float16)

    whole = upsample_chroma(chroma, luma, (0, 255), "bt601", luma.shape)
    banded = UpsampledChroma(chroma, luma, (0, 255), "bt601")

    for band in (slice(0, 97), slice(0, 1), slice(40, 73), slice(96, 140)):
        assert_allclose(banded[:, band], whole[:, band], atol=2e-5)
