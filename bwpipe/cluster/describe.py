"""What a cluster has, and how long it would take for what one machine takes long for."""

from collections.abc import Iterator

from bwpipe.cluster.pool import WorkerPool
from bwpipe.core.parallel import cores
from bwpipe.engine.outdated import in_words


def cluster_lines(pool: WorkerPool, cpus: int, seconds: float | None) -> Iterator[str]:
    """The machines of a cluster, the workers that there is room for, and an estimate.

    Args:
        pool: What reaches the workers; it is opened and closed.
        cpus: Processors of a worker.
        seconds: What the work takes on this machine; None if that was not measured.

    Raises:
        UsageError: The cluster can't be reached, or no worker has room.
    """
    try:
        said: list[str] = []
        where = pool.open(said.append)
        yield from said
        count = pool.size()
        yield f"{where}:"
        yield from (f"  {line}" for line in pool.resources())
        yield f"  room for {count} worker{'s' * (count > 1)} of {cpus} processor{'s' * (cpus > 1)} each"
        if seconds is not None:
            there = seconds * cores() / (count * cpus)
            here = f"{cores()} take {in_words(seconds)}"
            yield f"  about {in_words(there)}, if its processors are like those here, of which {here}"
    finally:
        pool.close()
