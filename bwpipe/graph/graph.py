"""Reads a graph and checks it: every complaint says where, what, and what to do."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field

from bwpipe.core import plugins
from bwpipe.core.options import Loc, build
from bwpipe.core.registry import UnknownNameError
from bwpipe.core.stage import Count, Stage, stages
from bwpipe.errors import UsageError
from bwpipe.graph.document import Document
from bwpipe.graph.overrides import apply_changes
from bwpipe.graph.topology import Place, check_places, upstream

M = TypeVar("M", bound=BaseModel)


class Settings(BaseModel):
    """A graph of bwpipe: its stages, in order, and how they are run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    stages: Annotated[list[Any], Field(min_length=1)]
    """The steps. Each follows the one above it, or the one that its `from` names."""
    plugins: list[str] = []
    """Folders with stages and networks of your own, one a file; relative to the graph file."""
    on_error: Literal["skip", "stop"] = "skip"
    """What a file that fails does: `skip` leaves it out and goes on, `stop` ends the run, whatever `max_errors` says."""
    max_errors: Annotated[int, Field(ge=0)] | None = None
    """So many files may fail before the run ends; any number if not given."""
    queue: Count = 4
    """How many frames may wait between two stages; more takes more memory."""
    segment: Count | Literal["off"] = 1000
    """How many frames of a film are done, kept and resumed as one; `off` does each film in one piece."""


class Entry(BaseModel):
    """A step: three words are the graph's, all others are the stage's options."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    use: Annotated[str, Field(json_schema_extra={"format": "stage"})]
    """The name of the stage."""
    id: Annotated[str, Field(pattern=r"^[^\s.]+$", json_schema_extra={"format": "id"})] | None = None
    """What to call it in this graph; by default, its name."""
    from_: Annotated[str | None, Field(alias="from")] = None
    """The id of the stage above that it follows; by default, the one right above."""


WORDS = ("use", "id", "from")


@dataclass(frozen=True, slots=True)
class Node:
    """A stage in its place in a graph.

    Attributes:
        id: What it is called in the graph.
        stage: It, with its options.
        upstream: The id of the node whose items it takes; None for the source.
        where: Where it was described: `pipeline.yaml:4:5`, or `stages[1]` in a dict.
    """

    id: str
    stage: Stage
    upstream: str | None
    where: str

    @contextmanager
    def error_context(self) -> Iterator[None]:
        """What a stage refuses inside is said with the place where it was described."""
        try:
            yield
        except UsageError as error:
            raise UsageError(f"{self.where}: {error}") from error


@dataclass(frozen=True, slots=True)
class Graph:
    """Stages that were checked, ready to run.

    Attributes:
        nodes: In an order in which each comes after its upstream; the first is the source.
        on_error: What a file that fails does.
        max_errors: How many files may fail before the run ends; None for any number.
        queue: How many items wait between two stages.
        segment: How many frames of a film make a unit; None for all.
        path: The file it was read from; None for a dict.
        plugins: Its own folders of stages and networks, absolute.
    """

    nodes: list[Node]
    on_error: Literal["skip", "stop"] = "skip"
    max_errors: int | None = None
    queue: int = 4
    segment: int | None = 1000
    path: Path | None = None
    plugins: tuple[Path, ...] = ()

    def __str__(self) -> str:
        """Its stages as YAML, with the options that were given."""
        given = [
            {"use": node.stage.registered, **node.stage.model_dump(mode="json", exclude_unset=True)} for node in self.nodes
        ]
        return yaml.safe_dump({"stages": given}, sort_keys=False, allow_unicode=True)

    def downstream(self, stage: object) -> list[Stage]:
        """The stages that what comes out of a stage goes through, in their order."""
        ids = {node.id for node in self.nodes if node.stage is stage}
        found: list[Stage] = []
        for node in self.nodes:
            if node.upstream in ids:
                ids.add(node.id)
                found.append(node.stage)
        return found


def read_graph(
    source: str | Path | Mapping[str, Any],
    set: Mapping[str, Any] | Sequence[str] = (),  # noqa: A002 (the word of the command line)
) -> Graph:
    """Read and check a graph; no stage is set up and nothing is written.

    Args:
        source: A graph file, or what stands in one as a dict. Paths in options are relative to the current folder, those
            of `plugins` to the graph file (of a dict, to the current folder).
        set: What to change before it is checked: {"colorize.batch": 4}, or texts "colorize.batch=4" with YAML values.

    Raises:
        ConfigError: A line for each thing that is wrong.
        PluginError: An installed plugin can't be imported.
    """
    document = Document.of(source) if isinstance(source, Mapping) else Document.read(Path(source))
    apply_changes(document, set)
    settings = _settings(document)
    folders = _load_plugins(document, settings)
    nodes = _nodes(document, settings.stages)
    document.raise_complaints()
    segment = None if settings.segment == "off" else settings.segment
    return Graph(nodes, settings.on_error, settings.max_errors, settings.queue, segment, document.path, folders)


def _settings(document: Document) -> Settings:
    """What stands beside the stages. What is wrong is complained of and left out, so that the stages can be looked at."""
    if not isinstance(document.data, dict):
        empty = document.data is None
        document.complain(f"{'this is empty' if empty else 'keys are missing'}; begin with `stages:` and a list of them")
        document.raise_complaints()
    settings = build(Settings, document.data, of="the graph")
    if isinstance(settings, Settings):
        return settings
    for complaint in settings:
        document.complain(complaint.text, *complaint.loc, key=complaint.key)
    wrong = {complaint.loc[0] for complaint in settings if complaint.loc}
    if "stages" not in document.data or wrong & {"stages", "plugins"}:
        document.raise_complaints()
    return Settings.model_construct(**{key: document.data[key] for key in ("stages", "plugins") if key in document.data})


def _load_plugins(document: Document, settings: Settings) -> tuple[Path, ...]:
    base = document.path.parent if document.path else Path()
    folders = [base / folder for folder in settings.plugins]
    try:
        plugins.load(folders)
    except plugins.PluginError as error:
        if error.folder is None:
            raise
        document.complain(str(error), "plugins", folders.index(error.folder))
        document.raise_complaints()
    return tuple(folder.absolute() for folder in folders)


def _nodes(document: Document, entries: list[Any]) -> list[Node]:
    """The nodes that can be made; what is wrong is complained of."""
    nodes: list[Node] = []
    places: list[Place] = []
    for i, data in enumerate(entries):
        at: Loc = ("stages", i)
        place, stage = _stage(document, at, data)
        before = upstream(place, places)
        if stage:
            nodes.append(Node(place.id, stage, before.id if before else None, document.where(*at)))
        places.append(place)
    check_places(document, places)
    return nodes


def _stage(document: Document, at: Loc, data: Any) -> tuple[Place, Stage | None]:
    """What one entry says, as far as it can be understood."""
    if not isinstance(data, dict):
        document.complain("a stage is given by its name and options; write `use: NAME`", *at)
        return Place(f"stages[{at[1]}]"), None
    entry = _built(document, at, Entry, {key: value for key, value in data.items() if key in WORDS}, "a stage")
    if entry is None:
        name = data.get("id") or data.get("use")
        return Place(name if isinstance(name, str) else f"stages[{at[1]}]"), None
    cls = _class(document, at, entry.use)
    options = {key: value for key, value in data.items() if key not in WORDS}
    stage = _built(document, at, cls, options, repr(entry.use)) if cls else None
    return Place(entry.id or entry.use, cls, entry.from_, stage), stage


def _class(document: Document, at: Loc, name: str) -> type[Stage] | None:
    try:
        return stages[name]
    except UnknownNameError as error:
        document.complain(str(error), *at, "use")
        return None


def _built(document: Document, at: Loc, model: type[M], options: Mapping[str, Any], of: str) -> M | None:
    """The model of some options of the stage at that place; None, with complaints, if there is something wrong with them."""
    made = build(model, options, of=of, words=WORDS)
    if not isinstance(made, list):
        return made
    for complaint in made:
        document.complain(complaint.text, *at, *complaint.loc, key=complaint.key)
    return None
