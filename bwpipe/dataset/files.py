"""Pairs written to files that numpy reads."""

import os
from contextlib import nullcontext, suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from bwpipe.dataset import COLOUR, GREY, Pair
from bwpipe.errors import UsageError
from bwpipe.scoring.colourfulness import colourfulness


class PairFiles:
    """Writes pairs into two files, one after another; at the end of a `with` they are whole and on the disk.

    Attributes:
        names: The name of each pair's picture.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` exists and has no such files. Raises OSError."""
        self.names: list[str] = []
        self._grey, self._colour = _Rows(folder / GREY), _Rows(folder / COLOUR)
        self._digest = blake2b(digest_size=16)
        self._colourfulness = 0.0

    def add(self, pair: Pair) -> None:
        """Write one. Raises OSError, and UsageError for one that is not of the size of the others."""
        name = str(pair.unit.name)
        size = self._grey.shape or pair.grey.shape
        for array, shape in ((pair.grey, size), (pair.colour, (*size, 3))):
            if array.shape != shape or array.dtype != np.uint8:
                raise UsageError(
                    f"{name}: its pair has an array of {array.shape} {array.dtype}, not {shape} uint8; "
                    "let the stage before `dataset` make all pairs of one size"
                )
        self._digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        for file, array in ((self._grey, pair.grey), (self._colour, pair.colour)):
            self._digest.update(file.add(array))
        self._colourfulness += colourfulness(pair.colour)
        self.names.append(name)

    @property
    def digest(self) -> str:
        """A hash of the pairs so far, and of their names."""
        return self._digest.hexdigest()

    @property
    def colourfulness(self) -> float:
        """The mean over the pairs so far, of which there is one."""
        return self._colourfulness / len(self.names)

    def __enter__(self) -> "PairFiles":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Finish the files; where there was an error, close them as they are. Raises OSError."""
        with suppress(OSError) if error else nullcontext():
            try:
                self._grey.close()
            finally:
                self._colour.close()


class _Rows:
    """An .npy file of uint8 that gets one row after another; the first one decides on the shape of all.

    Attributes:
        shape: Of a row; empty before the first.
    """

    def __init__(self, path: Path) -> None:
        self.shape: tuple[int, ...] = ()
        self._count = 0
        self._file = path.open("xb")

    def add(self, row: NDArray[np.uint8]) -> memoryview:
        """Write one. Its bytes."""
        if not self._count:
            self.shape = row.shape
            self._head()
        content = np.ascontiguousarray(row).data
        self._file.write(content)
        self._count += 1
        return content

    def close(self) -> None:
        """Write how many there are, and flush all to the disk."""
        with self._file:
            self._head()
            self._file.flush()
            os.fsync(self._file.fileno())

    def _head(self) -> None:
        """Write the header, which numpy makes of one length however many rows there are."""
        self._file.seek(0)
        what = {"descr": "|u1", "fortran_order": False, "shape": (self._count, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, what)
