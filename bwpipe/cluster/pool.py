"""What reaches workers: the interface that Ray is behind, and that another cluster could be."""

from collections.abc import Callable, Collection, Hashable
from typing import Any, Protocol


class WorkerLost(Exception):
    """A worker, or its machine, is gone.

    Attributes:
        for_memory: Whether it was ended because its machine had too little memory, whoever took that.
    """

    def __init__(self, why: str, *, for_memory: bool = False) -> None:
        super().__init__(why)
        self.for_memory = for_memory


class WorkerPool(Protocol):
    """Starts workers, and calls the methods of `bwpipe.cluster.worker.Worker` there.

    A call returns at once with a ticket. Calls of one worker are done one after another, but those of its method `news` also
    while another is at work.
    """

    def open(self, say: Callable[[str], None]) -> str:
        """Connect, and give in a few words to what; `say` shows why it takes long. Raises UsageError."""

    def size(self) -> int:
        """How many workers there can be."""

    def start(self, name: str) -> Hashable:
        """Start a worker of this name, as soon as there is room for it."""

    def call(self, worker: Hashable, method: str, *arguments: Any) -> Hashable:
        """Call a method; the result is that of the ticket."""

    def wait(self, tickets: Collection[Hashable], seconds: float) -> list[Hashable]:
        """Those of the tickets whose results are there, waiting for the first one for some time."""

    def result(self, ticket: Hashable) -> Any:
        """The result of a ticket for which `wait` has waited. Raises WorkerLost, RunAborted."""

    def share(self, value: Any) -> Any:
        """What stands for a large value in arguments, and travels to each machine once."""

    def resources(self) -> list[str]:
        """What the cluster has, in lines."""

    def kill(self, worker: Hashable) -> None:
        """End a worker at once."""

    def close(self) -> None:
        """Disconnect; what was started is ended."""
