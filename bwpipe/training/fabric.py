"""Lightning Fabric, imported without torchmetrics, of which it wants only the version: two seconds of each training's start."""

import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from importlib.util import module_from_spec


def _import_fabric() -> None:
    """Import it; a module that has nothing but the version stands for torchmetrics meanwhile."""
    name = "torchmetrics"
    try:
        stand_in = module_from_spec(ModuleSpec(name, loader=None))
        stand_in.__version__ = version(name)  # type: ignore[attr-defined]
    except PackageNotFoundError:
        return
    if sys.modules.setdefault(name, stand_in) is not stand_in:
        return
    try:
        import lightning_fabric  # noqa: F401
    finally:
        del sys.modules[name]


_import_fabric()

from lightning_fabric import Fabric  # noqa: E402

__all__ = ["Fabric"]
