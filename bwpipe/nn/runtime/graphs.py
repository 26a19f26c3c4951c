"""Where graphs of networks are: shipped ones in the package, others in the user's cache folder."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from bwpipe.core import plugins
from bwpipe.core.atomic_file import WORK_FOLDER, write_atomically
from bwpipe.core.fingerprint import cached_digest
from bwpipe.errors import MediaError
from bwpipe.nn.checkpoint_file import Checkpoint, weight_shapes
from bwpipe.nn.runtime.graph_file import FORMAT, NetworkGraph, read_graph_file
from bwpipe.nn.runtime.openvino import openvino_version
from bwpipe.version import __version__

FOLDER = "graphs"
SUFFIX = ".zip"


def find_graph(path: Path, checkpoint: Checkpoint, folders: Sequence[Path]) -> NetworkGraph | None:
    """The graph of a checkpoint, if it is shipped or cached; None if it has to be made.

    A shipped graph serves every checkpoint of its network with the same options, such as one that the user has trained.

    Args:
        path: The checkpoint.
        checkpoint: Its description.
        folders: Cache folders, as from `cache_folders`.

    Raises:
        UsageError: The checkpoint can't be read.
    """
    source = source_digest(checkpoint.network)
    shapes = weight_shapes(path)
    for place in (shipped_path(checkpoint.network), *(folder / cache_name(path, checkpoint) for folder in folders)):
        graph = read_graph_file(place)
        if graph and graph.info.source == source and _same_network(graph, checkpoint) and graph.fits(shapes):
            return graph
    return None


def _same_network(graph: NetworkGraph, checkpoint: Checkpoint) -> bool:
    return (graph.info.network, graph.info.options) == (checkpoint.network, checkpoint.options)


def keep_graph(graph: NetworkGraph, path: Path, checkpoint: Checkpoint, folders: Sequence[Path]) -> None:
    """Write a graph into the first cache folder that can be written; if there is none, the next run makes it again."""
    for folder in folders:
        with suppress(OSError, MediaError):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / cache_name(path, checkpoint), graph.to_bytes())
            with suppress(OSError):  # it may hold temporary files of other writers
                (folder / WORK_FOLDER).rmdir()
            return


def cache_name(path: Path, checkpoint: Checkpoint) -> str:
    """The name of the file of a checkpoint's graph, which changes with all that the graph depends on."""
    key = {
        "format": FORMAT,
        "weights": cached_digest(path),
        "network": checkpoint.network,
        "options": checkpoint.options,
        "source": source_digest(checkpoint.network),
        "bwpipe": __version__,
        "openvino": openvino_version(),
    }
    digest = blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=16).hexdigest()
    return f"{checkpoint.network}-{digest}{SUFFIX}"


def cache_folders(work: Sequence[Path] = (), environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Folders for graphs, best first: in the user's cache folder, or, if the user has none, in `.bwpipe` of an output folder.

    Args:
        work: Output folders.
        environment: The environment variables.
    """
    given = environment.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():  # others are to be ignored, as the XDG Base Directory Specification says
        return [Path(given, "bwpipe", FOLDER)]
    if sys.platform == "win32":
        local = environment.get("LOCALAPPDATA")
        return [Path(local, "bwpipe", FOLDER)] if local else [folder / WORK_FOLDER / FOLDER for folder in work]
    home = environment.get("HOME", "")
    if Path(home).is_absolute() and Path(home).is_dir():
        return [Path(home, "Library/Caches" if sys.platform == "darwin" else ".cache", "bwpipe", FOLDER)]
    return [folder / WORK_FOLDER / FOLDER for folder in work]


def shipped_path(network: str) -> Path:
    """Where the graph of a network is that comes with bwpipe; there is none for networks of others."""
    return Path(str(files(plugins.NETWORKS))) / FOLDER / f"{network}{SUFFIX}"


def source_digest(network: str) -> str:
    """A digest of a network's code: of its module and, unless it is built in, of the modules beside it, which it may use."""
    module = plugins.built_in_module(plugins.NETWORKS, network)
    if module:
        spec = find_spec(module)
        paths = [Path(spec.origin)] if spec and spec.origin else []
    else:
        from bwpipe.nn.network import networks  # of a plug-in, which has imported torch already

        own = sys.modules[networks[network].__module__].__file__
        paths = sorted(Path(own).parent.glob("*.py")) if own else []
    hasher = blake2b(digest_size=16)
    for path in paths:
        hasher.update(path.read_bytes())
    return hasher.hexdigest()
