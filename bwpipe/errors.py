"""What can go wrong, by what follows from it."""


class BwpipeError(Exception):
    """An error whose text is one sentence for the user: where, what, and what to do."""

    exit_code = 1


class MediaError(BwpipeError):
    """One picture or film can't be read or written; the others go on. The text does not name the file: the engine does."""


class UsageError(BwpipeError):
    """The command, the graph or its surroundings are wrong; nothing was started or written."""

    exit_code = 2


class RunAborted(BwpipeError):
    """The run can't go on: the disk is full, the output folder is gone, a device failed."""

    exit_code = 3


class TooManyErrors(BwpipeError):
    """A unit failed under `on_error: stop`, or one more than `max_errors` did."""


class RunStopped(Exception):
    """The run ends for a reason elsewhere; raised so that a stream cut short never looks complete."""


FATAL = (RunStopped, MemoryError, RunAborted, TooManyErrors, UsageError)
"""What ends the run, wherever it is raised; any other Exception fails one unit."""


def format_error(error: BaseException) -> str:
    """An error in a line: our own as they are, others with their type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, BwpipeError) else f"{type(error).__name__}: {text}" if text else type(error).__name__
