"""Arrays as bytes, as what a first pass keeps of a film."""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from bwpipe.errors import MediaError


def packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Serialise arrays by their names."""
    file = BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


@contextmanager
def unpacked(data: bytes, what: str) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The arrays that `packed` serialised; what is done with them in the context fails like bytes that are damaged.

    Raises MediaError, which names the memory of `what`.
    """
    try:
        with np.load(BytesIO(data), allow_pickle=False) as file:
            yield file
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise MediaError(f"the memory of {what} in `.bwpipe/fragments` is damaged; run again, and it is made again") from error
