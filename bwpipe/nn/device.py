"""The devices that networks can run on."""

import os
import platform

import torch

from bwpipe.errors import UsageError


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
