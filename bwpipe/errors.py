"""Exceptions, grouped by their consequence."""

from pathlib import Path


class BwpipeError(Exception):
    """An error whose text is one sentence for the user: where, what, and what to do."""

    exit_code = 1


class MediaError(BwpipeError):
    """One picture or film can't be read or written; the run continues. The text does not name the file: the engine adds it."""


class DamagedRecord(MediaError):
    """What an earlier run kept is damaged: it is forgotten, so that the same command makes it again.

    Attributes:
        path: The file.
    """

    def __init__(self, what: str, path: Path) -> None:
        super().__init__(f"{what} {path.name} is damaged, and forgotten; run again, and it is made again")
        self.path = path


class UsageError(BwpipeError):
    """The command, the graph or its environment is wrong; nothing was started or written."""

    exit_code = 2


class RunAborted(BwpipeError):
    """The run can't continue: the disk is full, the output folder is gone, a device failed."""

    exit_code = 3


class TooManyErrors(BwpipeError):
    """A unit failed under `on_error: stop`, or more than `max_errors` units failed."""


class RunStopped(Exception):
    """The run ends for a reason elsewhere; raised so that a truncated stream never looks complete."""


FATAL = (RunStopped, MemoryError, RunAborted, TooManyErrors, UsageError)
"""Exceptions that end the run wherever they are raised; any other Exception fails one unit."""


def format_error(error: BaseException) -> str:
    """Format an error on one line: bwpipe's own as they are, others with their type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, BwpipeError) else f"{type(error).__name__}: {text}" if text else type(error).__name__
