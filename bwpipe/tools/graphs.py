"""Make the graphs that come with bwpipe, so that OpenVINO computes the shipped networks without torch.

    python -m bwpipe.tools.graphs

Do it, by `make graphs`, whenever shipped weights, a network's code or its options have changed; a test says so. The graphs are
compared with torch before they are written, and are the same bytes each time.
"""

from collections.abc import Iterator
from pathlib import Path

from bwpipe.core.atomic_file import write_output_bytes
from bwpipe.nn.checkpoint import load, locate
from bwpipe.nn.network import networks
from bwpipe.nn.runtime.graph_file import NetworkGraph
from bwpipe.nn.runtime.graphs import shipped_path, source_digest
from bwpipe.nn.runtime.trace import trace


def shipped_networks() -> Iterator[str]:
    """The names of the networks whose weights come with bwpipe."""
    weights = shipped_path("").parents[1] / "weights"
    yield from (name for name in networks if (weights / f"{name}.safetensors").is_file())


def make_graph(name: str) -> NetworkGraph:
    """The graph of a shipped network. Raises CannotTrace, UsageError."""
    network, checkpoint = load(locate(name))
    return trace(network, checkpoint.options, source_digest(name))


def write_graphs() -> Iterator[Path]:
    """Write all graphs; yields each file. Raises CannotTrace, UsageError, RunAborted."""
    for name in shipped_networks():
        path = shipped_path(name)
        path.parent.mkdir(exist_ok=True)
        write_output_bytes(path, make_graph(name).to_bytes())
        yield path


if __name__ == "__main__":
    for written in write_graphs():
        print(f"{written}: {written.stat().st_size} bytes")
