"""The description of a graph, a file or a dict, with source positions and error messages."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from bwpipe.core.options import Loc
from bwpipe.graph.templates import template
from bwpipe.graph.yaml_loader import MAX_BYTES, ConfigError, Mark, Marked, parse

MAX_ERRORS = 20
"""Maximum number of errors shown at once."""
_NO_POSITION = (0, 0)
"""The sort position of errors that have no position in a file."""


@dataclass(frozen=True, slots=True)
class Override:
    """A value for an option, with what the user wrote to set it.

    Attributes:
        key: `<stage>.<option>`, as in `--set`, or a key of the graph itself.
        value: None, bool, int, float, str, or lists and dicts (with str keys) of these.
        origin: What messages call it, such as "--vividness".
    """

    key: str
    value: Any
    origin: str


class Document:
    """The description of a graph, the source position of each part, and its errors.

    Attributes:
        data: None, bool, int, float, str, and lists and dicts (with str keys) of these.
        path: The file; None for a dict.
        shipped: Whether it is a graph that comes with bwpipe.
    """

    def __init__(self, marked: Marked, path: Path | None = None) -> None:
        """Use `Document.read` or `Document.of`."""
        self.data = marked.data
        self.path = path
        self.shipped = path is not None and path.parent == template(path.name).parent
        self._marked = marked
        self._origins: dict[Loc, str] = {}
        self._errors: list[tuple[Mark, str]] = []

    @classmethod
    def read(cls, path: Path) -> "Document":
        """Read a YAML file of at most `yaml_loader.MAX_BYTES`. Raises ConfigError."""
        try:
            with path.open("rb") as file:
                marked = parse(file.read(MAX_BYTES + 1))
        except FileNotFoundError:
            raise ConfigError(f"{path}: this file does not exist; `bwpipe init` writes one to start from") from None
        except (OSError, ValueError) as error:  # ValueError: an invalid file name
            raise ConfigError(f"{path}: can't be read ({getattr(error, 'strerror', None) or error})") from error
        document = cls(marked, path)
        for mark, text in marked.problems:
            document._errors.append((mark, f"{path}:{mark[0]}:{mark[1]}: {text}"))
        document.raise_errors()
        return document

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Document":
        """Create a document from the content of a file as a dict, in which paths may be `Path`. Raises ConfigError."""
        try:
            return cls(Marked(from_json(to_json(dict(data)))))
        except ValueError as error:
            raise ConfigError(f"the graph contains a value that YAML can't represent: {error}") from None

    def set(self, loc: Loc, value: Any, origin: str) -> None:
        """Set one value, creating the mappings on its path; error messages name `origin` as its source."""
        at = self.data
        for step, following in pairwise(loc):
            if isinstance(following, str) and isinstance(at, dict) and not isinstance(at.get(step), dict):
                at[step] = {}
            at = at[step]
        at[loc[-1]] = value
        for positions in (self._marked.keys, self._marked.values, self._origins):
            for old in [old for old in positions if old[: len(loc)] == loc]:
                del positions[old]
        self._origins[loc] = origin

    def overridden(self, *loc: str | int) -> frozenset[str]:
        """The keys of a mapping that `set` changed, or something within them."""
        depth = len(loc)
        return frozenset(str(origin[depth]) for origin in self._origins if origin[:depth] == loc and len(origin) > depth)

    def overrides(self, *loc: str | int) -> tuple[Override, ...]:
        """Each value that `set` changed within a mapping, with its key in it and its origin."""
        found = []
        for path, origin in self._origins.items():
            if path[: len(loc)] == loc and len(path) > len(loc):
                value = self.data
                for step in path:
                    value = value[step]
                found.append(Override(".".join(map(str, path[len(loc) :])), value, origin))
        return tuple(found)

    def where(self, *loc: str | int, key: bool = False) -> str:
        """The position of a value, of its key, or of the closest enclosing value that has one.

        It is `path:line:column` in a file, `stages[1]` or `graph` in a dict, or the origin of an override; in a graph that
        comes with bwpipe, whose lines the user has not written, it is the stage.
        """
        return self._position(loc, key=key)[1]

    def add_error(self, text: str, *loc: str | int, key: bool = False) -> None:
        """Record an error in a value or its key."""
        order, position = self._position(loc, key=key)
        self._errors.append((order, f"{position}: {text}"))

    def add_override_error(self, origin: str, text: str) -> None:
        """Record an error in an override."""
        self._errors.append((_NO_POSITION, f"{origin}: {text}"))

    def raise_errors(self) -> None:
        """Raise ConfigError with all recorded errors, in the order of their positions, if there are any."""
        lines = list(dict.fromkeys(text for _, text in sorted(self._errors, key=lambda each: each[0])))
        if len(lines) > MAX_ERRORS:
            lines[MAX_ERRORS:] = [f"{self.path or 'graph'}: and {len(lines) - MAX_ERRORS} more; fix these first"]
        if lines:
            raise ConfigError("\n".join(lines))

    def _position(self, loc: Loc, *, key: bool) -> tuple[Mark, str]:
        for end in range(len(loc), -1, -1):
            prefix = loc[:end]
            if prefix in self._origins:
                return _NO_POSITION, self._origins[prefix]
            marks = self._marked.keys if key and end == len(loc) else self._marked.values
            if self.shipped:
                continue
            if mark := marks.get(prefix):
                return mark, f"{self.path}:{mark[0]}:{mark[1]}"
        if self.shipped and len(loc) > 1:
            return _NO_POSITION, f"stage {self.data['stages'][loc[1]]['use']}"
        return _NO_POSITION, f"{loc[0]}[{loc[1]}]" if len(loc) > 1 else "graph"
