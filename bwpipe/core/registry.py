"""Registries: unique names for classes, whose modules are imported when they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Generic, TypeVar

from bwpipe.core import plugins

T = TypeVar("T")
C = TypeVar("C")


class UnknownNameError(LookupError):
    """A name that is not registered; the text suggests the closest one."""


class Registry(Generic[T]):
    """Unique names for classes; iterating yields the names, sorted.

    The built-in class of a name is in the module of that name, which is imported when the class is asked for. Iterating imports
    the modules of all built-in classes and of installed packages. Both raise PluginError if one can't be imported.
    """

    def __init__(self, kind: str, package: str = "") -> None:
        """Create an empty one.

        Args:
            kind: What messages call an entry, e.g. "stage".
            package: The package of the built-in classes, which is also the entry point group of others; empty for none.
        """
        self.kind = kind
        self.package = package
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[C]], type[C]]:
        """Decorate a class to register it. Raises ValueError if another class has the name."""

        def add(cls: type[C]) -> type[C]:
            other = self._classes.get(name)
            built_in = plugins.built_in_module(self.package, name)
            if built_in and built_in != cls.__module__:
                raise ValueError(f"{self.kind} {name!r} is in both {built_in} and {cls.__module__}")
            if other and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(f"{self.kind} {name!r} is in both {other.__module__} and {cls.__module__}")
            self._classes[name] = cls  # type: ignore[assignment]
            return cls

        return add

    def __getitem__(self, name: str) -> type[T]:
        """The class with that name. Raises UnknownNameError, PluginError."""
        if name not in self._classes and self.package:
            plugins.load_named(self.package, name)
        try:
            return self._classes[name]
        except KeyError:
            raise UnknownNameError(f"unknown {self.kind} {name!r}; {hint(name, self._names())}") from None

    def __iter__(self) -> Iterator[str]:
        if self.package:
            plugins.load_all(self.package)
        return iter(sorted(self._classes))

    def _names(self) -> list[str]:
        """All names, sorted, without importing what is built in: a network needs torch, whose import takes seconds."""
        built_in = plugins.built_in_names(self.package) if self.package else ()
        return sorted({*self._classes, *built_in})


def hint(name: str, known: list[str]) -> str:
    """The end of a message about an unknown name: the closest known name, or all of them."""
    return closest(name, known) or f"known: {', '.join(known)}"


def closest(name: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown name: the closest known name; empty if none is similar."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""
