"""Networks as OpenVINO compiled them, kept in the cache folder: reading one takes a quarter of the time of compiling it."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zlib import crc32

from bwpipe.core.atomic_file import WORK_FOLDER, write_atomically
from bwpipe.core.processor import processor_flags, processor_name
from bwpipe.errors import MediaError

FOLDER = "compiled"
SUFFIX = ".blob"
MOST_BYTES = 256 << 20
"""What a cache folder holds of them at most: those used last. `unet` takes 22 MB for pictures, and for each size of films."""
_CHECKSUM = 4
"""Bytes of a checksum against damage, before the rest. CRC-32 takes 6 ms for 22 MB, a cryptographic digest up to 30."""


@dataclass(frozen=True)
class CompiledNetworks:
    """What is kept of one network.

    Attributes:
        folders: Cache folders, best first.
        network: What it is: its name, and digests of its weights and its graph.
    """

    folders: Sequence[Path]
    network: Mapping[str, str]

    def read(self, how: Mapping[str, Any]) -> bytes | None:
        """What was kept of the network, compiled in a certain way; None if there is nothing, or it is damaged."""
        for path in self._places(how):
            with suppress(OSError), path.open("rb") as file:
                checksum, data = file.read(_CHECKSUM), file.read()
                if _checksum(data) == checksum:
                    with suppress(OSError):
                        os.utime(path)
                    return data
        return None

    def keep(self, how: Mapping[str, Any], compiled: bytes) -> None:
        """Keep it in the first folder that can be written; what was not used for longest goes, if there is too much."""
        if len(compiled) > MOST_BYTES:
            return
        for path in self._places(how):
            with suppress(OSError, MediaError):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, _checksum(compiled) + compiled)
                with suppress(OSError):  # it may hold temporary files of other writers
                    (path.parent / WORK_FOLDER).rmdir()
                _drop_oldest(path.parent)
                return

    def _places(self, how: Mapping[str, Any]) -> list[Path]:
        """Where it is or would be: the name changes with the network, the way, and the processor."""
        processor = [platform.machine(), processor_name(), *sorted(processor_flags())]
        key = json.dumps([dict(self.network), dict(how), processor], sort_keys=True)
        name = f"{self.network['name']}-{blake2b(key.encode(), digest_size=16).hexdigest()}{SUFFIX}"
        return [folder / name for folder in self.folders]


def _checksum(data: bytes) -> bytes:
    return crc32(data).to_bytes(_CHECKSUM, "big")


def _drop_oldest(folder: Path) -> None:
    """Remove what was not used for longest, until the rest is small enough; another process may do so too."""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, path))
    left = MOST_BYTES
    for _, size, path in sorted(found, reverse=True):
        left -= size
        if left < 0:
            with suppress(OSError):
                path.unlink()
