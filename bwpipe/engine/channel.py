"""A bounded queue between two threads."""

from collections import deque
from collections.abc import Iterator
from threading import Condition
from typing import Generic, Literal, TypeVar

from bwpipe.errors import RunStopped

T = TypeVar("T")


class Channel(Generic[T]):
    """Passes items on in order; a full one makes its writer wait.

    It is over when the writer ends it, when the reader leaves it, or when the run aborts it.
    """

    def __init__(self, depth: int) -> None:
        """`depth` is how many items may wait."""
        self._depth = depth
        self._items: deque[T] = deque()
        self._over: Literal["ended", "left", "aborted"] | None = None
        self._changed = Condition()

    def put(self, item: T) -> bool:
        """Add an item, waiting for room. False if the reader has left. Raises RunStopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or len(self._items) < self._depth)
            if self._over == "aborted":
                raise RunStopped
            if self._over is None:
                self._items.append(item)
                self._changed.notify_all()
            return self._over is None

    def end(self) -> None:
        """Say that no more items will come."""
        self._finish("ended")

    def leave(self) -> None:
        """Say that no more items are wanted."""
        self._finish("left")

    def abort(self) -> None:
        """Raise RunStopped in both threads, at once."""
        self._finish("aborted")

    def _finish(self, how: Literal["ended", "left", "aborted"]) -> None:
        with self._changed:
            if self._over is None or how == "aborted":
                self._over = how
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """The items, until the writer ends the channel. Raises RunStopped."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._over or self._items)
                if self._over == "aborted":
                    raise RunStopped
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
