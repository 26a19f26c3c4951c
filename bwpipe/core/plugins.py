"""Discovery of stages and networks: built in, in installed packages, and in a graph's own folders."""

import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, lru_cache
from hashlib import blake2b
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

from bwpipe.core.extras import missing_library
from bwpipe.core.memory import OUT_OF_MEMORY, is_out_of_memory, is_short
from bwpipe.errors import RunAborted, UsageError

STAGES, NETWORKS = "bwpipe.stages", "bwpipe.models"
"""The built-in packages, and the entry point groups of other packages: an entry point's value is a module."""

_NOT_PLUGINS = ("_", "test_")
"""Prefixes of modules that are not plug-ins: those that plug-ins share, and their tests."""


class PluginError(UsageError):
    """A plug-in can't be imported.

    Attributes:
        folder: The folder that the graph names, if the plug-in is from one.
    """

    def __init__(self, text: str, folder: Path | None = None) -> None:
        super().__init__(text)
        self.folder = folder


def load(folders: Iterable[Path] = ()) -> None:
    """Import the plug-ins of folders, and stages of installed packages. Calling it again is harmless.

    What is built in, and networks of installed packages, are imported when a registry is asked for them: a network needs torch,
    whose import takes longer than colouring a picture.

    Args:
        folders: Each `*.py` in them is a plug-in, except those whose names start with an underscore, and the files of pytest,
            `test_*.py` and `conftest.py`; they can import each other with `from . import`.

    Raises:
        PluginError: A plug-in can't be imported, or registers a name that is already in use.
    """
    _load_installed(STAGES)
    for folder in folders:
        try:
            _import_all(_package(folder), folder)
        except PluginError as error:
            error.folder = folder
            raise


def load_all(package: str) -> None:
    """Import what is in a built-in package, and what installed packages add to it. Raises PluginError."""
    built_in = import_module(package)
    _import_all(built_in, Path(built_in.__path__[0]))
    _load_installed(package)


def load_named(package: str, name: str) -> None:
    """Import the module of a name in a built-in package; if there is none, what installed packages add. Raises PluginError."""
    if module := built_in_module(package, name):
        _import(module, f"plugin {Path(import_module(package).__path__[0]) / name}.py")
    else:
        _load_installed(package)


def built_in_module(package: str, name: str) -> str | None:
    """The module of a name in a built-in package; None if there is none."""
    return f"{package}.{name}" if package and name.isidentifier() and name in _modules_of(package) else None


def built_in_names(package: str) -> list[str]:
    """The names of what is in a built-in package, without importing it: each is that of its module."""
    return sorted(_modules_of(package))


@cache
def _modules_of(package: str) -> frozenset[str]:
    """The names of the modules in a built-in package that are plug-ins."""
    return frozenset(filter(_is_plugin, (module.name for module in iter_modules(import_module(package).__path__))))


def _load_installed(group: str) -> None:
    for entry in _entry_points(group, tuple(map(_state, sys.path))):
        _import(entry.module, f"plugin {entry.name!r} of the package {entry.dist.name if entry.dist else entry.module!r}")


@lru_cache(maxsize=8)
def _entry_points(group: str, places: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """The entry points of a group where packages are installed: looking takes 12 ms, for each graph and each override.

    Args:
        group: The group.
        places: What `_state` says of each place, so that it is looked again when a package was added or removed.
    """
    return tuple(entry_points(group=group))


def _state(place: str) -> tuple[str, int]:
    """An entry of `sys.path`, and when something in it was last added or removed, in nanoseconds; 0 if it is missing."""
    with suppress(OSError):
        return place, Path(place).stat().st_mtime_ns
    return place, 0


def _package(folder: Path) -> ModuleType:
    """A package for a folder. Its name contains a hash, so that two folders with the same name are two packages."""
    if not folder.is_dir():
        raise PluginError(f"there is no plugin folder {folder}")
    path = str(folder.resolve())
    digest = blake2b(path.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    name = re.sub(r"\W", "_", f"bwpipe_plugins_{folder.resolve().name}_{digest}")
    package = sys.modules.setdefault(name, ModuleType(name))
    package.__path__ = [path]
    return package


def _import_all(package: ModuleType, folder: Path) -> None:
    for module in iter_modules(package.__path__):
        if _is_plugin(module.name):
            _import(f"{package.__name__}.{module.name}", f"plugin {folder / module.name}.py")


def _is_plugin(module: str) -> bool:
    return not (module.startswith(_NOT_PLUGINS) or module == "conftest")


def _import(module: str, what: str) -> None:
    try:
        import_module(module)
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error) or is_short():
            raise RunAborted(OUT_OF_MEMORY) from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        remedy = missing_library(error)
        raise PluginError(f"{what} can't be imported: {reason}{f'; {remedy}' if remedy else ''}") from error
