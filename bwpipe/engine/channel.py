"""A bounded queue between two threads."""

from collections import deque
from collections.abc import Iterator
from threading import Condition
from typing import Generic, Literal, TypeVar

from bwpipe.errors import RunStopped

T = TypeVar("T")


class Channel(Generic[T]):
    """A bounded FIFO queue; `put` blocks while it is full.

    It closes when the writer ends it, when the reader leaves it, or when the run aborts it.
    """

    def __init__(self, depth: int) -> None:
        """`depth` is the maximum number of queued items."""
        self._depth = depth
        self._items: deque[T] = deque()
        self._state: Literal["ended", "left", "aborted"] | None = None
        self._changed = Condition()

    def put(self, item: T) -> bool:
        """Add an item, waiting for space. False if the reader has left. Raises RunStopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._state or len(self._items) < self._depth)
            if self._state == "aborted":
                raise RunStopped
            if self._state is None:
                self._items.append(item)
                self._changed.notify_all()
            return self._state is None

    def end(self) -> None:
        """Called by the writer after the last item."""
        self._finish("ended")

    def leave(self) -> None:
        """Called by the reader when it needs no more items."""
        self._finish("left")

    def abort(self) -> None:
        """Raise RunStopped in both threads immediately."""
        self._finish("aborted")

    def _finish(self, how: Literal["ended", "left", "aborted"]) -> None:
        with self._changed:
            if self._state is None or how == "aborted":
                self._state = how
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """The items, until the writer ends the channel. Raises RunStopped."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._state or self._items)
                if self._state == "aborted":
                    raise RunStopped
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
