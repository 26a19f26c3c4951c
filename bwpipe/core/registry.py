"""Registries: unique names for classes."""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Generic, TypeVar

T = TypeVar("T")
C = TypeVar("C")


class UnknownNameError(LookupError):
    """A name that is not registered; the text suggests the closest one."""


class Registry(Generic[T]):
    """Unique names for classes; iterating yields the names, sorted."""

    def __init__(self, kind: str) -> None:
        """`kind` is what messages call an entry, e.g. "stage"."""
        self.kind = kind
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[C]], type[C]]:
        """Decorate a class to register it. Raises ValueError if another class has the name."""

        def add(cls: type[C]) -> type[C]:
            other = self._classes.get(name)
            if other and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(f"{self.kind} {name!r} is in both {other.__module__} and {cls.__module__}")
            self._classes[name] = cls  # type: ignore[assignment]
            return cls

        return add

    def __getitem__(self, name: str) -> type[T]:
        """The class with that name. Raises UnknownNameError."""
        try:
            return self._classes[name]
        except KeyError:
            raise UnknownNameError(f"unknown {self.kind} {name!r}; {hint(name, self)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._classes))


def hint(name: str, known: "Registry[T] | list[str]") -> str:
    """The end of a message about an unknown name: the closest known name, or all of them."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
