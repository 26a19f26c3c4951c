"""Settings of the whole process that are changed for a while by several threads."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock


class SharedSetting:
    """Changes settings of the whole process while somebody needs it.

    The first that enters changes them, in whatever thread, and the last that leaves restores them. Reentrant.
    """

    def __init__(self, change: Callable[[ExitStack], object]) -> None:
        """Prepare it; `change` changes the settings, and gives the stack what restores them."""
        self._change = change
        self._lock = Lock()
        self._users = 0
        self._restore = ExitStack()

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Inside the context, in every thread, the settings are changed."""
        with self._lock:
            if self._users == 0:
                self._change(self._restore)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._restore.close()
