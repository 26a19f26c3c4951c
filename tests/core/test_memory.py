"""Main memory."""

import platform
import subprocess
import sys

import pytest

from bwpipe.core.memory import available

FAULTS = """
import resource
import sys
import numpy as np
from bwpipe.core.memory import keep_freed_memory

if sys.argv[1:]:
    keep_freed_memory()
def work(times):
    for _ in range(times):
        block = np.empty(8 << 20, np.uint8)
        block[::4096] = 1
        del block
work(3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work(50)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_memory_that_is_freed_serves_the_next_frame_without_page_faults() -> None:
    command = [sys.executable, "-c", FAULTS]
    kept = subprocess.run([*command, "keep"], check=True, capture_output=True, text=True, timeout=100)

    assert int(kept.stdout) < 100


@pytest.mark.skipif(sys.platform != "linux", reason="it can't be asked elsewhere")
def test_available_memory_is_known() -> None:
    found = available()

    assert found is not None
    assert 0 < found < 1 << 50
