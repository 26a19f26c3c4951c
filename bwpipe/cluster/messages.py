"""What the process that runs a graph and its workers say to each other; all of it can be pickled."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bwpipe.core.atomic_file import AtomicFile
from bwpipe.core.frame import Unit
from bwpipe.errors import UsageError

Snapshot = Mapping[str, tuple[int, float]]
"""By the ids of stages: the items that a worker has produced so far, and seconds of work."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs to build the graph.

    Attributes:
        name: The worker's name.
        graph: The graph's description, without overrides.
        title, text: The graph's name, and its text.
        folder: The current folder, to which paths in options are relative.
        facts: What this run, or earlier ones into the same folders, have measured.
        max_context: Number of context frames before and after a unit.
        cores: Number of cores that the worker may use.
        restart: Whether long work starts over.
        films: Units of films whose frames are files: no output may take the name of one of these.
        probes: A file in each output folder, and what is in it: to be found under the same path.
        plugins: The plug-in folders, and a hash of what is in each.
        inputs: Some inputs, and their sizes in bytes.
        recipes: By the ids of stages, what their results depend on, as JSON.
    """

    name: str
    graph: Mapping[str, Any]
    title: str
    text: str
    folder: str
    facts: Mapping[str, str | int | float | bool]
    max_context: int
    cores: int
    restart: bool
    films: tuple[Unit, ...] = ()
    probes: Mapping[str, bytes] = field(default_factory=dict)
    plugins: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, int] = field(default_factory=dict)
    recipes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a worker can't work, in a sentence; the same holds for a run as a whole."""

    text: str

    def error(self, worker: str) -> UsageError:
        """As an error."""
        return UsageError(f"{worker}: {self.text}")


@dataclass(frozen=True, slots=True)
class Task:
    """One unit to do.

    Attributes:
        number: The unit's number: units are known by identity, which does not travel.
        part, start, stop, since: As of `Unit`.
        sinks: The ids of the sinks that write it.
        joined: The ids of those that write it as a segment of a film.
    """

    number: int
    part: int
    start: int
    stop: int | None
    since: int | None
    sinks: tuple[str, ...]
    joined: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Units of one file, or pictures, that a worker does in one go.

    Attributes:
        tasks: The units of each file, by the file's number.
        files: The files, by number: a `Unit` of all of it, or what the pool gave for one.
        memories: By the number of a file and the id of a stage: what the stage's first pass over it has kept, or what the pool
            gave for that.
    """

    tasks: Mapping[int, tuple[Task, ...]]
    files: Mapping[int, Any]
    memories: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finished:
    """A sink has written a unit; the file is flushed to disk under its temporary name."""

    number: int
    sink: str
    file: AtomicFile


@dataclass(frozen=True, slots=True)
class Failed:
    """A unit failed."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Warned:
    """A stage has warned of a file, or, with `left_out`, left one out on purpose; `file` is its number, if there is one."""

    file: int | None
    text: str
    each: bool = False
    left_out: bool = False


@dataclass(frozen=True, slots=True)
class Aborted:
    """The run can't continue: the disk is full, a device failed, the graph is wrong."""

    text: str
    exit_code: int


Event = Finished | Failed | Warned | Aborted


@dataclass(frozen=True, slots=True)
class News:
    """What has happened at a worker since it was asked last."""

    events: tuple[Event, ...]
    counts: Snapshot


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a worker is.

    Attributes:
        host: Its machine's name.
        processor: The processor's name.
        facts: What it measured by itself, such as the precision of a network on its own device.
    """

    host: str
    processor: str
    facts: Mapping[str, str | int | float | bool]
