"""Metrics of predictions against references, for the stage `score` and the command `bwpipe score`."""

from importlib.util import find_spec

from bwpipe.core.extras import install_command
from bwpipe.errors import UsageError


def check_installed() -> None:
    """Raise UsageError if a package that metrics need is missing."""
    for module, package in (("skimage", "scikit-image"), ("torchmetrics", "torchmetrics")):
        if find_spec(module) is None:
            raise UsageError(f"scoring needs {package}, which is not installed; run: {install_command('train')}")
