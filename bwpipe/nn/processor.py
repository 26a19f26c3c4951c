"""What this machine can compute with, as far as that is known without torch."""

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from bwpipe.core.parallel import cores
from bwpipe.core.processor import processor_flags, processor_name

__all__ = ["computes_bfloat16", "cores", "may_have_accelerator", "processor_name"]

_DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvhost-ctrl-gpu", "/dev/dxg", "/dev/kfd")
"""Device files of NVIDIA's drivers (servers and PCs, Jetson, Windows' Linux) and of AMD's."""
_BFLOAT16 = {"avx512_bf16", "amx_bf16"}
"""Names, as Linux gives them, of what x86 processors compute bfloat16 with."""


@cache
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
        return not _BFLOAT16.isdisjoint(processor_flags())
    return False
