"""Aliases for names that plug-ins of bwpipe 0.1 import and that have moved: they still work, with a warning."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any
from warnings import warn

NAMES: Mapping[str, tuple[str, ...]] = {
    "bwpipe.Outcome": ("bwpipe", "RunResult"),
    "bwpipe.Run": ("bwpipe", "RunContext"),
    "bwpipe.base.*": ("bwpipe.core.stage",),
    "bwpipe.dataset.*": ("bwpipe.data.dataset",),
    "bwpipe.draft.Draft": ("bwpipe.core.atomic_file", "AtomicFile"),
    "bwpipe.draft.*": ("bwpipe.core.atomic_file",),
    "bwpipe.execution.Run": ("bwpipe.core.context", "RunContext"),
    "bwpipe.execution.*": ("bwpipe.core.context",),
    "bwpipe.film.Film": ("bwpipe.video.file", "VideoFile"),
    "bwpipe.frame.*": ("bwpipe.core.frame",),
    "bwpipe.losses.Look": ("bwpipe.losses", "View"),
    "bwpipe.losses.LookLoss": ("bwpipe.losses", "ViewLoss"),
    "bwpipe.losses.Shown": ("bwpipe.losses", "ViewBatch"),
    "bwpipe.losses.truth.moved": ("bwpipe.losses", "shift_target"),
    "bwpipe.losses.truth.true_chroma": ("bwpipe.losses", "target_chroma"),
    "bwpipe.motion.Motion": ("bwpipe.core.frame", "Motion"),
    "bwpipe.network.Checkpoint": ("bwpipe.nn.checkpoint", "Checkpoint"),
    "bwpipe.network.load": ("bwpipe.nn.checkpoint", "load"),
    "bwpipe.network.save": ("bwpipe.nn.checkpoint", "save"),
    "bwpipe.network.*": ("bwpipe.nn.network",),
    "bwpipe.picture.Picture": ("bwpipe.image.file", "ImageFile"),
    "bwpipe.plugins.*": ("bwpipe.core.plugins",),
    "bwpipe.ports.*": ("bwpipe.core.stage",),
    "bwpipe.stamp.Stamp": ("bwpipe.core.fingerprint", "Fingerprint"),
    "bwpipe.stamp.stamp": ("bwpipe.core.fingerprint", "fingerprint"),
}
"""New location of each 0.1 name; `*` stands for all other names of a module, which are unchanged."""
ROOMS = ("bwpipe", "bwpipe.losses", "bwpipe.motion")
"""The packages above that still exist: their `__getattr__` is `forward(__name__)`."""


def forward(module: str) -> Callable[[str], Any]:
    """A module `__getattr__` that resolves 0.1 names to their new location, with a DeprecationWarning."""

    def find(name: str) -> Any:
        home = NAMES.get(f"{module}.{name}") or NAMES.get(f"{module}.*")
        if home is None and (alias := sys.modules.get(f"{module}.{name}")):
            return alias
        if home is None or name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new_module, *renamed = home
        new_name = renamed[0] if renamed else name
        value = getattr(import_module(new_module), new_name)
        warn(f"{module}.{name} is now {new_module}.{new_name}; import it from there", DeprecationWarning, stacklevel=2)
        return value

    return find


def install() -> None:
    """Make the 0.1 modules that plug-ins import importable; nothing is imported until one of their names is used."""
    for module in {name.rpartition(".")[0] for name in NAMES} - set(ROOMS):
        alias = ModuleType(module, "Names of bwpipe 0.1; see `bwpipe.core.aliases`.")
        alias.__getattr__ = forward(module)  # type: ignore[method-assign]
        sys.modules.setdefault(module, alias)
