"""What an error in a stage ends: one unit, or the run."""

from bwpipe.core.context import RunContext
from bwpipe.core.frame import Unit
from bwpipe.core.memory import OUT_OF_MEMORY, is_out_of_memory, is_short
from bwpipe.errors import FATAL, BwpipeError, MediaError, RunAborted, format_error
from bwpipe.graph.node import Node


def fail_unit(unit: Unit, error: Exception, run: RunContext) -> None:
    """Fail a unit, or raise an error that ends the run.

    If memory ran out because the unit is large, only the unit fails; if there is hardly any left, no file is to blame.
    """
    if isinstance(error, FATAL) and not isinstance(error, MemoryError):
        raise error
    if is_short():
        raise RunAborted(OUT_OF_MEMORY) from error
    if is_out_of_memory(error):
        error = MediaError(f"there is not enough memory for {unit.media}")
    run.fail(unit, error)


def as_bwpipe_error(error: BaseException, node: Node) -> BwpipeError:
    """The error to show to the user for one that a node's stage raised."""
    if isinstance(error, BwpipeError) and error.args != (OUT_OF_MEMORY,):
        return error
    what = OUT_OF_MEMORY if is_out_of_memory(error) or is_short() else format_error(error)
    aborted = RunAborted(f"{node.where}: stage {node.id!r}: {what}")
    aborted.__cause__ = error
    return aborted
