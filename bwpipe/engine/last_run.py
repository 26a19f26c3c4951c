"""How the last run into an output folder was made, so that `bwpipe review` can make a preview of it, and run it again."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bwpipe.core.atomic_file import WORK_FOLDER, write_atomically
from bwpipe.core.json_text import parse_json
from bwpipe.errors import UsageError
from bwpipe.graph.graph import Graph, read_graph
from bwpipe.graph.templates import template
from bwpipe.version import __version__

RECORD = "last-run.json"
"""Its name, in the output folder's `.bwpipe/`."""
_MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class LastRun:
    """The last run into a folder.

    Attributes:
        folder: The folder that was current, to which relative paths in options refer.
        graph: The graph file, absolute; None for one that comes with bwpipe, and for one that was no file.
        shipped: The name of the graph that comes with bwpipe, such as "pipeline.yaml"; empty for another one.
        changes: The options that were set besides, as in `--set`.
    """

    folder: Path
    graph: Path | None
    shipped: str
    changes: Mapping[str, Any]

    @classmethod
    def of(cls, graph: Graph) -> "LastRun":
        """That of a graph, run from the current folder."""
        changes = {f"{node.id}.{each.key}": each.value for node in graph.nodes for each in node.overrides}
        if graph.shipped:
            changes |= {key: graph.description[key] for key in sorted(graph.given - {"stages"}) if key in graph.description}
        named = graph.path.name if graph.path and graph.shipped else ""
        return cls(Path.cwd(), None if named or graph.path is None else graph.path.absolute(), named, changes)

    @classmethod
    def read(cls, folder: Path) -> "LastRun | None":
        """That of an output folder; None if nothing says how it was made."""
        path = folder / WORK_FOLDER / RECORD
        with suppress(OSError, ValueError, KeyError, TypeError):
            if path.is_symlink() or path.stat().st_size > _MOST_BYTES:
                return None
            found = parse_json(path.read_text(encoding="utf-8", errors="surrogateescape"))
            graph = found["graph"]
            return cls(
                Path(str(found["folder"])), None if graph is None else Path(str(graph)), found["shipped"], found["changes"]
            )
        return None

    def write(self, folder: Path) -> None:
        """Keep it in an output folder. Raises OSError."""
        record = {
            "bwpipe": __version__,
            "folder": str(self.folder),
            "graph": None if self.graph is None else str(self.graph),
            "shipped": self.shipped,
            "changes": dict(self.changes),
        }
        write_atomically(folder / WORK_FOLDER / RECORD, json.dumps(record, indent=1).encode(), folder=folder)

    def read_graph(self) -> Graph:
        """The graph that comes with bwpipe, with the options that were set; relative paths are those of `folder`.

        Raises:
            UsageError: It was another graph, or one with plug-ins. A file in an output folder, which may come from somebody
                else, is no reason to load code.
        """
        if not self.shipped or Path(self.shipped).name != self.shipped:
            which = f"`--graph {self.graph}`" if self.graph else "`--graph` and its file"
            raise UsageError(f"it was made by a graph of your own; add {which}")
        if "plugins" in self.changes:
            raise UsageError("it was made with plug-ins; write the graph into a file, and add `--graph` and that file")
        return read_graph(template(self.shipped), self.changes)
