"""Executes a stage of which some frames are processed by another instance, with overridden options."""

from dataclasses import replace
from typing import Any

from pydantic import PrivateAttr

from bwpipe.core.first_pass import INSTANCE
from bwpipe.core.frame import Frame
from bwpipe.core.stage import BatchMap, Map, Stage
from bwpipe.graph.instances import Instances
from bwpipe.graph.node import Node


def with_overrides(node: Node, instances: Instances) -> Stage:
    """What executes a node: its stage, or that and the instances that corrections ask for. Raises TypeError."""
    if not instances.concern(node):
        return node.stage
    if isinstance(node.stage, BatchMap):
        batches = type("Batches", (_Batches,), {"registered": node.stage.registered})
        made: Stage = batches(batch=node.stage.batch, workers=node.stage.workers).of(node, instances)
        return made
    if isinstance(node.stage, Map):
        return _Items(workers=node.stage.workers).of(node, instances)
    raise TypeError(f"the options of {node.id!r} can't be overridden: it is neither a Map nor a BatchMap")


def _key(item: Any, instances: Instances) -> str:
    """The instance that processes an item: that of its first pass, or else that of its frame."""
    if not isinstance(item, Frame):
        return ""
    found = item.notes.get(INSTANCE)
    return found if isinstance(found, str) else instances.at(item.unit.media, item.index)


def _noted(item: Any, key: str) -> Any:
    """An item with a note on what has processed it."""
    return replace(item, notes={**item.notes, INSTANCE: key}) if isinstance(item, Frame) else item


class _Batches(BatchMap):
    """A `BatchMap` whose batches are each processed by one instance."""

    _node: Node = PrivateAttr()
    _instances: Instances = PrivateAttr()

    def of(self, node: Node, instances: Instances) -> "_Batches":
        """The same for a node."""
        self._node, self._instances = node, instances
        return self

    def key(self, item: Any, /) -> Any:
        """The instance, and the key that it gives."""
        key = _key(item, self._instances)
        stage = self._instances.stage(self._node, key)
        assert isinstance(stage, BatchMap)
        return key, stage.key(item)

    def apply(self, items: list[Any], /) -> list[Any]:
        """What the instance makes of a batch."""
        key = _key(items[0], self._instances)
        stage = self._instances.stage(self._node, key)
        assert isinstance(stage, BatchMap)
        return [_noted(item, key) for item in stage.apply(items)]


class _Items(Map):
    """A `Map` whose items are each processed by one instance."""

    _node: Node = PrivateAttr()
    _instances: Instances = PrivateAttr()

    def of(self, node: Node, instances: Instances) -> "_Items":
        """The same for a node."""
        self._node, self._instances = node, instances
        return self

    def apply(self, item: Any, /) -> Any:
        """What the instance makes of an item."""
        key = _key(item, self._instances)
        stage = self._instances.stage(self._node, key)
        assert isinstance(stage, Map)
        return _noted(stage.apply(item), key)
