"""The processor of this machine, as the system describes it."""

import platform
from pathlib import Path

_DESCRIPTION = Path("/proc/cpuinfo")


def processor_name() -> str:
    """The processor's name, such as "AMD EPYC"; its architecture where the system does not tell."""
    lines = _processor_lines("model name")
    return lines[0] if lines else platform.processor() or platform.machine()


def processor_flags() -> frozenset[str]:
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
