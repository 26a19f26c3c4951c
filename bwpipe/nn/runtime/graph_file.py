"""The file of a network's graph: what OpenVINO computes with a checkpoint's weights, and what is known of it without torch.

It is a zip archive of `graph.json`, a `GraphInfo`; `graph.xml`, OpenVINO's description of the operations, in which the weights
are parameters; and `graph.bin`, its other constants. It holds no weights and no code.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bwpipe.nn.input_size import InputSizes

FORMAT = 1
"""Rises when what is in the file, or how it is used, changes."""
WEIGHT = "weight:"
"""Prefix of the parameters of the graph that are weights; the rest is the weight's name in the checkpoint."""
_DATE = (2020, 1, 1, 0, 0, 0)
"""Of the members, so that the same graph is the same file."""


class GraphInfo(BaseModel):
    """What is known of a network without its code.

    Attributes:
        format: `FORMAT`.
        network: Its registered name.
        options: The options it was built with.
        source: The digest of its code, see `bwpipe.nn.runtime.graphs.source_digest`.
        sizes: The rule for its input's size; None if that is in its code only.
        takes_hints: Whether the graph has the input `hints`.
        vividness: The vividness that None stands for.
        outputs: What it predicts, in order: fields of `Prediction`.
        weights: The shape of each weight that it computes with, by name.
        made_with: Versions of the packages that made it.
        digest: The digest of the other members.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    network: str
    options: dict[str, Any]
    source: str
    sizes: InputSizes | None
    takes_hints: bool
    vividness: float
    outputs: tuple[str, ...]
    weights: dict[str, tuple[int, ...]]
    made_with: dict[str, str]
    digest: str = ""


@dataclass(frozen=True, slots=True)
class NetworkGraph:
    """A network's graph.

    Attributes:
        info: What is known of the network.
        operations: OpenVINO's XML.
        constants: Its other constants.
    """

    info: GraphInfo
    operations: bytes
    constants: bytes

    def fits(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether a checkpoint with weights of these shapes has those that the graph computes with."""
        return all(shapes.get(name) == shape for name, shape in self.info.weights.items())

    @property
    def digest(self) -> str:
        """The digest of what OpenVINO computes."""
        return _digest(self.operations, self.constants)

    def to_bytes(self) -> bytes:
        """The file's content."""
        info = self.info.model_copy(update={"digest": self.digest})
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            description = json.dumps(info.model_dump(mode="json"), sort_keys=True, indent=1).encode()
            members = {"graph.json": description, "graph.xml": self.operations, "graph.bin": self.constants}
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name, _DATE), data, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()


def read_graph_file(path: Path) -> NetworkGraph | None:
    """Read a graph; None if there is none, or it is damaged or of another version."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = GraphInfo.model_validate_json(archive.read("graph.json"))
            graph = NetworkGraph(info, archive.read("graph.xml"), archive.read("graph.bin"))
    except (OSError, KeyError, EOFError, ValidationError, zipfile.BadZipFile, zipfile.zlib.error):  # type: ignore[attr-defined]
        return None
    if info.format != FORMAT or info.digest != graph.digest:
        return None
    return graph


def _digest(operations: bytes, constants: bytes) -> str:
    return blake2b(operations + constants, digest_size=16).hexdigest()
