"""Lets tests share what OpenVINO compiles: compiling a network takes longer than most of what tests do with it."""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from hashlib import blake2b
from threading import Lock
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bwpipe.nn.runtime import openvino

_MOST = 32
_KEY = "tests"
_CORE: Callable[[], Any] = openvino._core
_WITH_WEIGHTS: Callable[[Any, Mapping[str, NDArray[np.floating]]], Any] = openvino.with_weights


class SharingCore:
    """A `Core` of OpenVINO that compiles a network with the same graph, weights, sizes and settings once."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self._compiled: OrderedDict[tuple[str, ...], Any] = OrderedDict()
        self._lock = Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def read_model(self, operations: bytes, constants: bytes) -> Any:
        """A model that knows what it was read from; so do its clones."""
        model = self._core.read_model(operations, constants)
        model.set_rt_info(_digest([operations, constants]), _KEY)
        return model

    def compile_model(self, model: Any, device: str, config: Mapping[str, Any]) -> Any:
        """The compiled model, from the last time if there was one."""
        sizes = str([each.get_partial_shape() for each in model.inputs])
        key = (model.get_rt_info(_KEY).astype(str), sizes, device, json.dumps(config, sort_keys=True))
        return self._shared(key, lambda: self._core.compile_model(model, device, config))

    def import_model(self, data: bytes, device: str, config: Mapping[str, Any]) -> Any:
        """A compiled model that is read, from the last time if there was one."""
        key = (_digest([data]), device, json.dumps(config, sort_keys=True))
        return self._shared(key, lambda: self._core.import_model(data, device, config))

    def _shared(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = make()
                if len(self._compiled) > _MOST:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(key)
            return self._compiled[key]


def _digest(parts: Iterable[Any]) -> str:
    hasher = blake2b(digest_size=16)
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()


def share_compiled_networks(patch: pytest.MonkeyPatch) -> None:
    """Make run times that are created from now on in this process compile by one `SharingCore`."""

    def marked(model: Any, weights: Mapping[str, NDArray[np.floating]]) -> Any:
        known = model.get_rt_info(_KEY).astype(str)
        arrays = [part for name in sorted(weights) for part in (name.encode(), np.ascontiguousarray(weights[name]).data)]
        weighted = _WITH_WEIGHTS(model, weights)
        weighted.set_rt_info(_digest([known.encode(), *arrays]), _KEY)
        return weighted

    patch.setattr(openvino, "_core", cache(lambda: SharingCore(_CORE())))
    patch.setattr(openvino, "with_weights", marked)


def compile_each_network(patch: pytest.MonkeyPatch) -> None:
    """Undo that, for tests of what compiling gives."""
    patch.setattr(openvino, "_core", _CORE)
    patch.setattr(openvino, "with_weights", _WITH_WEIGHTS)
