"""What this machine can compute with, as far as that is known without torch."""

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bwpipe.core.parallel import cores

__all__ = ["computes_bfloat16", "cores", "may_have_accelerator", "processor_name"]

_DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvhost-ctrl-gpu", "/dev/dxg", "/dev/kfd")
"""Device files of NVIDIA's drivers (servers and PCs, Jetson, Windows' Linux) and of AMD's."""
_DESCRIPTION = Path("/proc/cpuinfo")
_BFLOAT16 = {"avx512_bf16", "amx_bf16"}
"""Names, as Linux gives them, of what x86 processors compute bfloat16 with."""


def may_have_accelerator() -> bool:
    """Whether torch has to be asked for GPUs; False if there are none for certain, as without a driver for one.

    Elsewhere than on Linux it is always asked.
    """
    if sys.platform != "linux":
        return True
    try:
        torch = version("torch")
    except PackageNotFoundError:
        return False
    return "+xpu" in torch or any(map(os.path.exists, _DRIVERS))


@cache
def computes_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16 by which networks are faster, as it says itself."""
    if sys.platform == "linux" and platform.machine().lower() in {"x86_64", "amd64"}:
        return not _BFLOAT16.isdisjoint(_processor_flags())
    return False


def processor_name() -> str:
    """The processor's name, such as "AMD EPYC"; its architecture where the system does not tell."""
    lines = _processor_lines("model name")
    return lines[0] if lines else platform.processor() or platform.machine()


def _processor_flags() -> frozenset[str]:
    """The instructions that all cores have, by the names that Linux gives them."""
    found = [frozenset(line.split()) for line in _processor_lines("flags")]
    return frozenset.intersection(*found) if found else frozenset()


def _processor_lines(key: str) -> list[str]:
    """The values of a key in Linux's description of the processor, one for each core."""
    try:
        text = _DESCRIPTION.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    pairs = (line.partition(":") for line in text.splitlines())
    return [value.strip() for name, _, value in pairs if name.strip() == key]
