"""The options of commands that use a cluster, and what they do."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bwpipe.engine.executor import Executor
    from bwpipe.graph.graph import Graph

Ray = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT",
        help="Have the work done by workers of a Ray cluster: `auto` is the one that this machine belongs to, or else one that "
        "is started here for the run. Needs `bwpipe[ray]`.",
        show_default=False,
    ),
]
RayWorkers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="How many workers; by default as many as there is room for.")
]


def ray_executor(graph: "Graph", address: str, workers: int | None) -> "Executor":
    """What executes a run on Ray. Raises UsageError."""
    from bwpipe.cluster.executor import ClusterExecutor
    from bwpipe.cluster.ray_pool import RayPool

    return ClusterExecutor(RayPool(address, graph.cluster, workers), cores=graph.cluster.cpus)


def cluster_lines(graph: "Graph", address: str, seconds: float | None) -> Iterator[str]:
    """What a Ray cluster has, and how long it takes for what this machine takes `seconds` for. Raises UsageError."""
    from bwpipe.cluster.describe import cluster_lines as lines
    from bwpipe.cluster.ray_pool import RayPool

    return lines(RayPool(address, graph.cluster, None), graph.cluster.cpus, seconds)
