"""Reads and validates graphs: every error message says where, what, and what to do."""

import os
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field

from bwpipe.core import plugins
from bwpipe.core.inputs import PathText, expand_user
from bwpipe.core.options import Loc, build
from bwpipe.core.registry import UnknownNameError
from bwpipe.core.stage import Count, Stage, UnitMap, stages
from bwpipe.errors import UsageError
from bwpipe.graph.corrections import read_corrections, subfolder
from bwpipe.graph.document import Document
from bwpipe.graph.instances import Instances, changed
from bwpipe.graph.node import Node
from bwpipe.graph.overrides import Overrides, apply_changes
from bwpipe.graph.topology import ParsedEntry, check_topology, upstream
from bwpipe.graph.yaml_loader import ConfigError, Marked

M = TypeVar("M", bound=BaseModel)


_MEMORY = r"^([1-9]\d*) ?([MG])(i?)B$"


class Cluster(BaseModel):
    """What each worker of a cluster takes; of effect with `--ray` only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus: Count = 2
    """Processors of a worker."""
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs of a worker, such as 1, or 0.5 for two workers on each; then set `colorize.device: cuda`."""
    memory: Annotated[str | None, Field(pattern=_MEMORY)] = None
    """Memory of a worker, such as "4 GiB", in quotes: no more workers are put on a machine than fit. By default it does not
    count."""

    @property
    def memory_bytes(self) -> int | None:
        """The memory in bytes."""
        found = re.fullmatch(_MEMORY, self.memory or "")
        if not found:
            return None
        step = 1024 if found[3] else 1000
        return int(found[1]) * (step**2 if found[2] == "M" else step**3)


class Settings(BaseModel):
    """A bwpipe graph: its stages, in order, and how they run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: Annotated[list[Any], Field(min_length=1)]
    """The stages. Each follows the one above it, or the one named by its `from`."""
    plugins: list[PathText] = []
    """Folders with your own stages and networks, one per file; relative to the graph file, in `--set` to the current folder."""
    on_error: Literal["skip", "stop"] = "skip"
    """What happens when a file fails: `skip` continues without it, `stop` ends the run regardless of `max_errors`."""
    max_errors: Annotated[int, Field(ge=0)] | None = None
    """How many files may fail before the run ends; unlimited by default."""
    queue: Count = 2
    """Maximum number of frames queued between two stages; more uses more memory."""
    corrections: PathText | None = None
    """A folder of corrections, which need not exist: `hints` and `references` in it are the defaults of `colorize.hints` and
    `anchor.reference`, and `overrides.yaml` overrides options for some files or shots. It is never read as input."""
    segment: Count | Literal["auto", "off"] = "auto"
    """Number of frames of a film that are processed, saved and resumed as one segment. `auto` is 1000 up to 720p, 500 at 1080p
    and 125 at 4K, so that an interruption loses about a minute of work; `off` processes each film as a whole."""
    segments_at_once: Count | Literal["auto"] = "auto"
    """Number of segments in work at a time; more keep more cores or a GPU busy, and take more memory. `auto` is one for every 4
    cores, or fewer if they would not fit into memory. The result does not depend on it."""
    cluster: Cluster = Cluster()
    """What each worker of a cluster takes, such as `{cpus: 4, gpus: 1}`, if `bwpipe run --ray` is used."""


class Entry(BaseModel):
    """A stage of a graph: three keys belong to the graph, all others are the stage's options."""

    model_config = ConfigDict(frozen=True, extra="allow")

    use: Annotated[str, Field(json_schema_extra={"format": "stage"})]
    """The name of the stage."""
    id: Annotated[str, Field(pattern=r"^[^\s.]+$", json_schema_extra={"format": "id"})] | None = None
    """Its id in this graph; by default, its name."""
    from_: Annotated[str | None, Field(alias="from")] = None
    """The id of the stage above that it follows; by default, the one directly above."""


WORDS = ("use", "id", "from")


class _Dumper(yaml.SafeDumper):
    """Quotes text that looks like a number: PyYAML writes YAML 1.1, to which 1e3 is text, and graph files are YAML 1.2."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if text[:1] in set("0123456789.+-") else None)


_Dumper.add_representer(str, _represent_text)


@dataclass(frozen=True, slots=True)
class Graph:
    """Validated stages, ready to run.

    Attributes:
        nodes: In topological order; the first is the source.
        on_error: What happens when a file fails.
        max_errors: How many files may fail before the run ends; None for no limit.
        queue: Maximum number of items queued between two stages.
        segment: Number of frames per segment of a video; "auto" for one that depends on their size, None for all.
        segments_at_once: Number of segments in work at a time; None for one by cores and memory.
        cluster: What each worker of a cluster takes.
        path: The file it was read from; None for a dict.
        plugins: Its plug-in folders, absolute.
        given: The settings beside the stages that the user gave, such as `segment`.
        shipped: Whether it is a graph that comes with bwpipe, so that another version may have other stages in it.
        corrections: The folder of corrections, absolute; None if there is none.
        instances: The instances of its stages, and which of them processes what.
        description: Its content as in a file, including overrides; relative plug-in folders have become absolute.
    """

    nodes: list[Node]
    on_error: Literal["skip", "stop"] = "skip"
    max_errors: int | None = None
    queue: int = 2
    segment: int | Literal["auto"] | None = "auto"
    segments_at_once: int | None = None
    cluster: Cluster = field(default_factory=Cluster)
    path: Path | None = None
    plugins: tuple[Path, ...] = ()
    given: frozenset[str] = frozenset()
    shipped: bool = False
    corrections: Path | None = None
    instances: Instances = field(default_factory=Instances)
    description: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """The graph as YAML, with everything that was set: read again, it gives an equal graph."""
        return yaml.dump(dict(self.description), Dumper=_Dumper, sort_keys=False, allow_unicode=True)

    def override(self, changes: Overrides) -> "Graph":
        """The graph with other options, as `set` of `read_graph`. Raises ConfigError."""
        if not changes:
            return self
        document = Document(Marked(deepcopy(dict(self.description))), self.path)
        apply_changes(document, changes, Settings.model_fields)
        changed = _graph_of(document)
        pairs = zip(changed.nodes, self.nodes, strict=True)  # what was given earlier is given still
        nodes = [replace(node, given=node.given | earlier.given) for node, earlier in pairs]
        return replace(changed, nodes=nodes, given=changed.given | self.given)

    def downstream(self, stage: object) -> list[Stage]:
        """The stages downstream of a stage, in order."""
        ids = {node.id for node in self.nodes if self.instances.is_of(node, stage)}
        found: list[Stage] = []
        for node in self.nodes:
            if node.upstream in ids:
                ids.add(node.id)
                found.append(node.stage)
        return found


def read_graph(
    source: str | Path | Mapping[str, Any],
    set: Overrides = (),  # noqa: A002 (named like the command-line option)
) -> Graph:
    """Read and validate a graph; no stage is set up and nothing is written.

    Args:
        source: A graph file, or its content as a dict. Paths in options are relative to the current folder, those of
            `plugins` to the graph file (in a dict or in `set`, to the current folder).
        set: Overrides to apply before validation: {"colorize.batch": 4}, strings "colorize.batch=4" with YAML values, or
            `Override`s.

    Raises:
        ConfigError: One line per error.
        PluginError: An installed plug-in can't be imported.
    """
    document = Document.of(source) if isinstance(source, Mapping) else Document.read(expand_user(source))
    apply_changes(document, set, Settings.model_fields)
    return _graph_of(document)


def _graph_of(document: Document) -> Graph:
    """Build a graph from its description. Raises ConfigError, PluginError."""
    settings = _settings(document)
    folders = _load_plugins(document, settings)
    nodes = _nodes(document, settings.stages)
    document.raise_errors()
    corrections = None if settings.corrections is None else Path(os.path.abspath(expand_user(settings.corrections)))  # noqa: PTH100
    if corrections:
        nodes = [_with_folders(node, corrections) for node in nodes]
    for node in nodes:
        node.stage.placed(_above(node, nodes), _below(node, nodes))
    instances = _instances(nodes, corrections)
    segment = None if settings.segment == "off" else settings.segment
    given = document.overridden() if document.shipped else frozenset(settings.model_fields_set)
    if settings.segment == "auto":
        given -= {"segment"}  # that is no choice
    description = document.data | ({"plugins": [str(folder) for folder in folders]} if folders else {})
    return Graph(
        nodes,
        settings.on_error,
        settings.max_errors,
        settings.queue,
        segment,
        None if settings.segments_at_once == "auto" else settings.segments_at_once,
        settings.cluster,
        document.path,
        folders,
        given,
        document.shipped,
        corrections,
        instances,
        description,
    )


def _with_folders(node: Node, corrections: Path) -> Node:
    """A node whose options that are not set are subfolders of the folder of corrections, where there are any."""
    found = {
        option: str(path)
        for option, name in node.stage.correction_folders.items()
        if getattr(node.stage, option) is None and (path := subfolder(corrections, name)) is not None
    }
    if not found:
        return node
    return replace(node, stage=changed(node, found), given=node.given | found.keys())


def _instances(nodes: Sequence[Node], corrections: Path | None) -> Instances:
    """The instances of stages that corrections ask for. Raises ConfigError, UsageError."""
    known = sorted({option for node in nodes for option in node.stage.correctable})
    found = read_corrections(corrections, known) if corrections else []
    first = next((i for i, node in enumerate(nodes) if node.stage.correctable), 0)
    context = sum(node.stage.context for node in nodes[first:] if isinstance(node.stage, UnitMap))
    instances = Instances(found, context, lambda node: (_above(node, nodes), _below(node, nodes)))
    for each in found:
        for node in nodes:
            own = {key: value for key, value in each.options.items() if key in node.stage.correctable}
            try:
                if own:
                    changed(node, own)
            except UsageError as error:
                raise ConfigError(f"{each.where}: {error}") from None
    return instances


def _settings(document: Document) -> Settings:
    """Validate the settings beside the stages. Invalid ones are reported and dropped, so that stages can be validated too."""
    if not isinstance(document.data, dict):
        empty = document.data is None
        document.add_error(f"{'this is empty' if empty else 'keys are missing'}; start with `stages:` and a list of them")
        document.raise_errors()
    settings = build(Settings, document.data, of="the graph")
    if isinstance(settings, Settings):
        return settings
    for problem in settings:
        document.add_error(problem.text, *problem.loc, key=problem.key)
    wrong = {problem.loc[0] for problem in settings if problem.loc}
    if "stages" not in document.data or wrong & {"stages", "plugins"}:
        document.raise_errors()
    return Settings.model_construct(**{key: document.data[key] for key in ("stages", "plugins") if key in document.data})


def _load_plugins(document: Document, settings: Settings) -> tuple[Path, ...]:
    base = Path() if document.path is None or "plugins" in document.overridden() else document.path.parent
    folders = [base / expand_user(folder) for folder in settings.plugins]
    try:
        plugins.load(folders)
    except plugins.PluginError as error:
        if error.folder is None:
            raise
        document.add_error(str(error), "plugins", folders.index(error.folder))
        document.raise_errors()
    return tuple(folder.absolute() for folder in folders)


def _nodes(document: Document, entries: list[Any]) -> list[Node]:
    """The nodes that can be built; errors are recorded."""
    nodes: list[Node] = []
    parsed_entries: list[ParsedEntry] = []
    for i, data in enumerate(entries):
        at: Loc = ("stages", i)
        parsed, stage = _stage(document, at, data)
        previous = upstream(parsed, parsed_entries)
        if stage:
            given = document.overridden(*at) if document.shipped else frozenset(stage.model_fields_set)
            nodes.append(
                Node(parsed.id, stage, previous.id if previous else None, document.where(*at), given, document.overrides(*at))
            )
        parsed_entries.append(parsed)
    check_topology(document, parsed_entries)
    return nodes


def _above(node: Node, nodes: Sequence[Node]) -> list[Stage]:
    """The stages from the source to the one above a node."""
    upstream = next((other for other in nodes if other.id == node.upstream), None)
    return [*_above(upstream, nodes), upstream.stage] if upstream else []


def _below(node: Node, nodes: Sequence[Node]) -> list[list[Stage]]:
    """The stages below a node, on each path to an end of the graph."""
    consumers = [other for other in nodes if other.upstream == node.id]
    paths = [[other.stage, *path] for other in consumers for path in _below(other, nodes)]
    return paths or [[]]


def _stage(document: Document, at: Loc, data: Any) -> tuple[ParsedEntry, Stage | None]:
    """Parse one entry as far as possible; errors are recorded."""
    if not isinstance(data, dict):
        document.add_error("a stage is given by its name and options; write `use: NAME`", *at)
        return ParsedEntry(f"stages[{at[1]}]"), None
    entry = _build(document, at, Entry, {key: value for key, value in data.items() if key in WORDS}, "a stage")
    if entry is None:
        name = data.get("id") or data.get("use")
        return ParsedEntry(name if isinstance(name, str) else f"stages[{at[1]}]"), None
    cls = _class(document, at, entry.use)
    options = {key: value for key, value in data.items() if key not in WORDS}
    stage = _build(document, at, cls, options, repr(entry.use)) if cls else None
    return ParsedEntry(entry.id or entry.use, cls, entry.from_, stage), stage


def _class(document: Document, at: Loc, name: str) -> type[Stage] | None:
    try:
        return stages[name]
    except UnknownNameError as error:
        document.add_error(str(error), *at, "use")
        return None


def _build(document: Document, at: Loc, model: type[M], options: Mapping[str, Any], of: str) -> M | None:
    """Build a model from the options of the stage at `at`; None, with errors recorded, if they are invalid."""
    built = build(model, options, of=of, words=WORDS)
    if not isinstance(built, list):
        return built
    for problem in built:
        document.add_error(problem.text, *at, *problem.loc, key=problem.key)
    return None
