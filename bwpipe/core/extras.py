"""What is not installed, and the command that installs it: optional packages, and libraries of the system."""

import re
import shlex
import sys
from importlib.metadata import PackageNotFoundError, requires

from bwpipe.errors import UsageError

_EXTRA = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")
_NAME = re.compile(r"[\w.-]+")
_LIBRARIES = {
    "libGL.so": "the system's libGL, which OpenCV needs, is missing: on Debian and Ubuntu, `apt-get install libgl1`; on a "
    "server without a display, `pip uninstall opencv-python` and `pip install opencv-python-headless` instead",
    "libgthread": "the system's GLib, which OpenCV needs, is missing: on Debian and Ubuntu, `apt-get install libglib2.0-0`",
}
"""What to do, by a part of the name of a shared library."""


def install_command(extra: str) -> str:
    """The command that installs the packages of an extra into this environment.

    It names the packages and not `bwpipe[extra]`, which pip would look for in an index even where bwpipe was installed from a
    checkout or a wheel, and it starts with this Python, whose environment may not be the active one.
    """
    return shlex.join([sys.executable, "-m", "pip", "install", *packages_of(extra)])


def packages_of(extra: str) -> list[str]:
    """The names of the packages in an extra, as the installed metadata of bwpipe list them. Raises UsageError."""
    try:
        lines = requires("bwpipe") or []
    except PackageNotFoundError:
        raise UsageError("bwpipe is not installed, only imported; install it with: pip install -e FOLDER") from None
    found = []
    for line in lines:
        package, _, marker = line.partition(";")
        name, extras = _NAME.match(package), _EXTRA.findall(marker)
        if name and extra in extras:
            found.append(name[0])
    return found


def missing_library(error: BaseException) -> str | None:
    """What to do if a package can't be imported because a shared library of the system is missing; None for other errors."""
    text = str(error)
    return next((remedy for name, remedy in _LIBRARIES.items() if name in text), None)
