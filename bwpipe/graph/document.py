"""What a graph is described by, a file or a dict, and the complaints about it."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from bwpipe.core.options import Loc
from bwpipe.graph.yaml_loader import MAX_BYTES, ConfigError, Mark, Marked, parse

MOST = 20
"""So many complaints are shown at once."""
_FIRST = (0, 0)
"""The place in the order of what stands in no file."""


class Document:
    """The description of a graph, where each part of it stands, and what is wrong with it.

    Attributes:
        data: None, bool, int, float, str, and lists and dicts (of str keys) of these.
        path: The file; None for a dict.
    """

    def __init__(self, marked: Marked, path: Path | None = None) -> None:
        """`Document.read` and `Document.of` make one."""
        self.data = marked.data
        self.path = path
        self._marked = marked
        self._origins: dict[Loc, str] = {}
        self._complaints: list[tuple[Mark, str]] = []

    @classmethod
    def read(cls, path: Path) -> "Document":
        """Read a YAML file, at most `yamlmarks.MAX_BYTES` of it. Raises ConfigError."""
        try:
            with path.open("rb") as file:
                marked = parse(file.read(MAX_BYTES + 1))
        except FileNotFoundError:
            raise ConfigError(f"{path}: there is no such file; `bwpipe init` writes one to start from") from None
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            raise ConfigError(f"{path}: can't be read ({getattr(error, 'strerror', None) or error})") from error
        document = cls(marked, path)
        for mark, text in marked.problems:
            document._complaints.append((mark, f"{path}:{mark[0]}:{mark[1]}: {text}"))
        document.raise_complaints()
        return document

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Document":
        """Take what would stand in a file, also with paths as `Path`. Raises ConfigError."""
        try:
            return cls(Marked(from_json(to_json(dict(data)))))
        except ValueError as error:
            raise ConfigError(f"the graph holds what YAML can't hold: {error}") from None

    def set(self, loc: Loc, value: Any, origin: str) -> None:
        """Change one value, making the mappings on the way to it; `origin` says in complaints where it comes from."""
        at = self.data
        for step, following in pairwise(loc):
            if isinstance(following, str) and isinstance(at, dict) and not isinstance(at.get(step), dict):
                at[step] = {}
            at = at[step]
        at[loc[-1]] = value
        for places in (self._marked.keys, self._marked.values, self._origins):
            for old in [old for old in places if old[: len(loc)] == loc]:
                del places[old]
        self._origins[loc] = origin

    def where(self, *loc: str | int, key: bool = False) -> str:
        """The place of a value, or of its key, or of the nearest thing around it that has one.

        It is `path:line:column` in a file, `stages[1]` or `graph` in a dict, or the origin of what was set.
        """
        return self._place(loc, key=key)[1]

    def complain(self, text: str, *loc: str | int, key: bool = False) -> None:
        """Note that something is wrong with a value or its key."""
        order, place = self._place(loc, key=key)
        self._complaints.append((order, f"{place}: {text}"))

    def complain_of(self, origin: str, text: str) -> None:
        """Note that something is wrong with what was to be set."""
        self._complaints.append((_FIRST, f"{origin}: {text}"))

    def raise_complaints(self) -> None:
        """Raise ConfigError if there was any complaint, with all of them in the order of their places."""
        lines = list(dict.fromkeys(text for _, text in sorted(self._complaints, key=lambda each: each[0])))
        if len(lines) > MOST:
            lines[MOST:] = [f"{self.path or 'graph'}: and {len(lines) - MOST} more; mend these first"]
        if lines:
            raise ConfigError("\n".join(lines))

    def _place(self, loc: Loc, *, key: bool) -> tuple[Mark, str]:
        for end in range(len(loc), -1, -1):
            near = loc[:end]
            if near in self._origins:
                return _FIRST, self._origins[near]
            marks = self._marked.keys if key and end == len(loc) else self._marked.values
            if mark := marks.get(near):
                return mark, f"{self.path}:{mark[0]}:{mark[1]}"
        return _FIRST, f"{loc[0]}[{loc[1]}]" if len(loc) > 1 else "graph"
