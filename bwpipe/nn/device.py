"""Devices that networks can run on, and the precision to use on them."""

import platform
from copy import deepcopy
from time import perf_counter

import torch

from bwpipe.errors import UsageError
from bwpipe.nn.network import Network
from bwpipe.nn.processor import computes_bfloat16, cores

__all__ = ["available", "cores", "describe", "find_device", "fitting_precision", "prepare", "slowness"]


def available() -> list[str]:
    """Names of this machine's devices, such as "cuda:0" and "cpu", in order of preference."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    accelerators = [f"{accelerator.type}:{i}" for i in range(torch.accelerator.device_count())] if accelerator else []
    return [*accelerators, "cpu"]


def find_device(name: str) -> torch.device:
    """The device with that name; "auto" is an accelerator if there is one, else the CPU. Raises UsageError."""
    known = available()
    for device in known:
        if name in {"auto", device, device.partition(":")[0]}:
            return torch.device(device)
    raise UsageError(f"there is no device {name!r}; this machine has {', '.join(known)}")


def describe(device: torch.device, threads: int | None = None) -> str:
    """Describe a device for a model card; `threads` is the number of CPU threads used, by default torch's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        count = threads or torch.get_num_threads()
        return f"CPU ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {count} threads)"
    return str(device)


EMULATED = 2
"""Multiple of the time in float32 above which a CPU emulates a precision, for lack of instructions."""


def prepare(net: Network, device: torch.device, precision: torch.dtype) -> Network:
    """A copy of the network on a device, with its weights in a precision, channels last."""
    return deepcopy(net).to(device, precision).to(memory_format=torch.channels_last)


def fitting_precision(kind: str) -> str:
    """The precision for inference, by torch's name, on a kind of device ("cpu", "cuda"), by what the device says it computes.

    It is not measured: what is faster by little depends on what else runs, and the colours depend on the precision. GPUs
    compute in float16 as fast as in bfloat16, whose 8 bits change the chroma of `unet` by 1.7 code values on average; with
    float16's 11 bits it is 0.1.
    """
    if kind != "cpu":
        return "float16"
    return "bfloat16" if computes_bfloat16() else "float32"


def slowness(net: Network, precision: torch.dtype) -> float:
    """Time that one thread of this CPU takes to train in a precision, as a multiple of its time in float32.

    As in training, weights stay in float32 and only `forward` uses the precision (automatic mixed precision). Where a processor
    lacks the instructions they are emulated, which takes ten times as long; then one trial is enough.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        baseline = _seconds(net, torch.float32)
        return _seconds(net, precision, baseline=baseline) / baseline
    finally:
        torch.set_num_threads(threads)


def _seconds(net: Network, precision: torch.dtype, baseline: float = float("inf")) -> float:
    """Seconds that a CPU takes: the faster of two trials, or the first if it already shows emulation."""
    net = prepare(net, torch.device("cpu"), torch.float32)
    luma = torch.full((1, 1, *net.input_size(512, 512)), 0.5)

    def trial() -> float:
        start = perf_counter()
        net(luma)
        return perf_counter() - start

    with torch.inference_mode(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        trial()  # creates the kernels
        first = trial()
        return first if first > EMULATED * baseline else min(first, trial())
