"""Files that PyTorch's `torch.save` writes, read without running what is pickled in them.

Such a file is a program for Python's unpickler, which may call anything. It is read twice: first by an unpickler that knows
nothing but the few names that weights need, and makes descriptions of tensors instead of tensors, so that their sizes are known
before any is allocated; then by `torch.load(weights_only=True)`.
"""

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

LARGEST_PICKLE = 64 * 2**20
"""Bytes that the description of the tensors may have; that of the largest published network has a fifth of a megabyte."""
MOST_WEIGHTS = 100_000
WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "generator", "model")
"""Keys under which programs keep the weights beside other things, the better ones first."""
_STORAGES = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
"""Bytes of an item of each kind of storage."""
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PICKLES = 4
"""Pickles before the list of the storages: the magic number, the version, sizes of integers, and the weights."""
_UNUSED_OPERATIONS = {"BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER", "EXT1", "EXT2", "EXT4", "INST", "OBJ"}
"""Operations of pickles that weights do not need: for a bytearray, Python allocates what the file claims, and others look up
classes in ways of their own."""


class ForeignFileError(ValueError):
    """A file that can't be used; the text says why, without its name."""


@dataclass(frozen=True, slots=True)
class _Described:
    """A tensor in a file: its shape, and the bytes that it takes there."""

    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True)
class _Storage:
    item: int
    count: int


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights in a file by name, without reading the weights. Raises ForeignFileError, OSError."""
    found = _inspect(path)
    weights = {name: value for name, value in _weights(found).items() if isinstance(value, _Described)}
    if len(weights) > MOST_WEIGHTS:
        raise ForeignFileError(f"it has {len(weights):,} weights; a network has at most {MOST_WEIGHTS:,}")
    total, there = sum(each.size for each in weights.values()), path.stat().st_size
    if total > 2 * there:  # tied weights share their bytes
        raise ForeignFileError(f"it has {there:,} bytes, and says that it holds weights of {total:,}")
    return {name: each.shape for name, each in weights.items()}


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file by name, on the CPU; call `read_shapes` first. Raises ForeignFileError, OSError."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, ValueError, EOFError, KeyError, AttributeError, TypeError) as error:
        raise ForeignFileError(f"PyTorch can't read it: {_first_line(error)}") from error
    return {name: value.detach() for name, value in _weights(loaded).items() if isinstance(value, Tensor)}


def _weights(found: Any) -> Mapping[str, Any]:
    """The weights among what a file holds, by name. Raises ForeignFileError."""
    for key in ("", *WRAPPERS):
        part = found.get(key) if key and isinstance(found, Mapping) else found
        if isinstance(part, Mapping) and any(isinstance(value, (Tensor, _Described)) for value in part.values()):
            named = {name: value for name, value in part.items() if isinstance(name, str)}
            return {name.removeprefix("module."): value for name, value in named.items()}  # of networks on several GPUs
    raise ForeignFileError("it holds no weights by name")


def _inspect(path: Path) -> Any:
    """What a file holds, with descriptions in place of tensors. Raises ForeignFileError, OSError."""
    try:
        if zipfile.is_zipfile(path):
            return _inspect_archive(path)
        with path.open("rb") as file:
            return _inspect_legacy(file, path.stat().st_size)
    except ForeignFileError:
        raise
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        RuntimeError,  # of `zipfile`: encrypted, or another kind of compression
        TypeError,
        ValueError,
    ) as error:
        raise ForeignFileError(f"it is damaged or cut short ({_first_line(error)})") from error


def _inspect_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        members = {each.filename: each for each in archive.infolist()}
        if packed := [name for name, each in members.items() if each.compress_type != zipfile.ZIP_STORED]:
            raise ForeignFileError(f"its member {packed[0]!r} is compressed, which those of PyTorch are not")
        descriptions = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(descriptions) != 1:
            raise ForeignFileError("it is a zip archive without the parts that PyTorch writes")
        if members[descriptions[0]].file_size > LARGEST_PICKLE:
            raise ForeignFileError(f"the description of its tensors has more than {LARGEST_PICKLE:,} bytes")
        folder = descriptions[0].removesuffix("data.pkl")

        def check(key: str, storage: _Storage) -> None:
            member = members.get(f"{folder}data/{key}")
            if member is None or member.file_size < storage.count * storage.item:
                raise ForeignFileError(f"it is damaged: the bytes of its tensor {key} are missing")

        data = archive.read(descriptions[0])
    _check_operations(io.BytesIO(data))
    return _Inspector(io.BytesIO(data), check).load()


def _inspect_legacy(file: BinaryIO, size: int) -> Any:
    """The form that PyTorch wrote before 1.6: pickles one after the other, and then the numbers."""
    if file.read(4) == b"PK\x03\x04":
        raise ForeignFileError("it is cut short: the end of the archive is missing")
    sizes: dict[str, int] = {}

    def check(key: str, storage: _Storage) -> None:
        sizes[key] = max(storage.count * storage.item, sizes.get(key, 0))
        if sum(sizes.values()) > size:
            raise ForeignFileError(f"it has {size:,} bytes, and says that its tensors have {sum(sizes.values()):,}")

    file.seek(0)
    _check_operations(_Limited(file))
    file.seek(0)
    if _Inspector(_Limited(file), check).load() != _LEGACY_MAGIC:  # first, so that a pickle of others is called what it is
        raise ForeignFileError("it is a pickle, but not one that PyTorch wrote")
    file.seek(0)
    reader = _Limited(file)
    for _ in range(_LEGACY_PICKLES):
        _check_operations(reader)
    file.seek(0)
    reader = _Limited(file)
    _Inspector(reader, check).load()  # the magic number
    _Inspector(reader, check).load()  # the version of the form
    _Inspector(reader, check).load()  # sizes of integers
    return _Inspector(reader, check).load()


def _check_operations(file: Any) -> None:
    """Read a pickle without executing it, and refuse some operations. Raises ForeignFileError."""
    for operation, _, _ in pickletools.genops(file):
        if operation.name in _UNUSED_OPERATIONS:
            raise ForeignFileError(f"it is damaged: it has the operation {operation.name}, which weights do not need")


class _Limited:
    """A file of which no more than `LARGEST_PICKLE` bytes can be read, nor any by a reader who reads ahead."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = LARGEST_PICKLE

    def read(self, count: int) -> bytes:
        return self._counted(count, self._file.read)

    def readline(self) -> bytes:
        return self._counted(0, lambda _: self._file.readline(self._left))

    def _counted(self, count: int, read: Callable[[int], bytes]) -> bytes:
        if not 0 <= count <= self._left:
            raise ForeignFileError(f"the description of its tensors has more than {LARGEST_PICKLE:,} bytes")
        data = read(count)
        self._left -= len(data)
        return data


class _Inspector(pickle.Unpickler):
    """Reads what weights are made of, and refuses any other name without looking it up."""

    def __init__(self, file: Any, check: Callable[[str, _Storage], None]) -> None:
        super().__init__(file, encoding="utf-8")
        self._check = check

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _described,
            ("torch._utils", "_rebuild_parameter"): lambda data, *rest: data,
            ("torch", "Size"): tuple,
        }
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return _STORAGES[name]
        try:
            return known[module, name]
        except KeyError:
            raise ForeignFileError(
                f"it would have Python call {module[:60]}.{name[:60]}, which weights do not need, so nothing of it is run; "
                "ask for a file of weights only (a `state_dict`)"
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        _, item, key, _, count, *_ = pid
        storage = _Storage(int(item), int(count))
        if storage.item not in _STORAGES.values() or storage.count < 0:
            raise ForeignFileError("it is damaged: a tensor is of no known kind")
        self._check(str(key), storage)
        return storage


def _described(storage: _Storage, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any) -> _Described:
    """The description of a tensor, as PyTorch would rebuild it. Raises ForeignFileError."""
    if not isinstance(storage, _Storage) or len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
        raise ForeignFileError("it is damaged: a tensor has no possible shape")
    count = prod(shape)
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True)) if count else -1
    if last >= storage.count or count > storage.count:
        raise ForeignFileError(f"it is damaged: a tensor has the shape {tuple(shape)}, and {storage.count:,} numbers")
    return _Described(tuple(shape), count * storage.item)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(".")
