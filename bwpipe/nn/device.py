"""The devices that networks can run on."""

import os
import platform
from copy import deepcopy
from time import perf_counter

import torch

from bwpipe.errors import UsageError
from bwpipe.nn.network import Network


def available() -> list[str]:
    """The names of this machine's devices, such as "cuda:0" and "cpu", the one to prefer first."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    others = [f"{accelerator.type}:{i}" for i in range(torch.accelerator.device_count())] if accelerator else []
    return [*others, "cpu"]


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" is an accelerator if there is one, else the CPU. Raises UsageError."""
    known = available()
    for device in known:
        if name in {"auto", device, device.partition(":")[0]}:
            return torch.device(device)
    raise UsageError(f"there is no device {name!r}; this machine has {', '.join(known)}")


def describe(device: torch.device, threads: int | None = None) -> str:
    """What a device is, for a model card; `threads` is how many a CPU computes with, if not as many as torch would take."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        count = threads or torch.get_num_threads()
        return f"CPU ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {count} threads)"
    return str(device)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


EMULATED = 2
"""Times float32's time: where a precision takes a CPU longer, it has no instructions for it, and emulates them."""
_CLEARLY = 0.8
"""Of float32's time: bfloat16 is used on a CPU for guesses if it takes less."""


def prepare(net: Network, device: torch.device, precision: torch.dtype) -> Network:
    """A copy of the network on a device, with weights in a precision, channels last."""
    return deepcopy(net).to(device, precision).to(memory_format=torch.channels_last)


def fitting_precision(net: Network, kind: str) -> str:
    """The precision for guesses that is fast on a kind of device ("cpu", "cuda", ...) and good enough, as torch names it."""
    if kind == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if kind != "cpu":
        return "float16"
    return "bfloat16" if slowness(net, torch.bfloat16) < _CLEARLY else "float32"


def slowness(net: Network, precision: torch.dtype, *, mixed: bool = False) -> float:
    """How long one thread of this CPU takes for luma in a precision, as a multiple of what it takes in float32.

    Where a processor lacks the instructions they are emulated, which takes ten times as long; then one trial is enough.

    Args:
        net: The network.
        precision: Of its numbers.
        mixed: Whether its weights stay in float32 and only its `forward` is in that precision, as in a training (automatic
            mixed precision); else it makes a guess as `colorize` has it made.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        exact = _seconds(net, torch.float32, mixed)
        return _seconds(net, precision, mixed, enough=exact) / exact
    finally:
        torch.set_num_threads(threads)


def _seconds(net: Network, precision: torch.dtype, mixed: bool, enough: float = float("inf")) -> float:
    """How long a CPU takes, the faster of two trials, or the first one where that shows that numbers are emulated."""
    kind = torch.float32 if mixed else precision
    net = prepare(net, torch.device("cpu"), kind)
    luma = torch.full((1, 1, *net.input_size(512, 512)), 0.5, dtype=kind)

    def trial() -> float:
        start = perf_counter()
        if mixed:
            net(luma)
        else:
            net.guess(luma)
        return perf_counter() - start

    with torch.inference_mode(), torch.autocast("cpu", precision, enabled=mixed and precision != torch.float32):
        trial()  # makes the kernels
        first = trial()
        return first if first > EMULATED * enough else min(first, trial())
