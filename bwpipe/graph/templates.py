"""The graph files installed with the package."""

from importlib.resources import files
from pathlib import Path

from bwpipe.core.inputs import expand_user
from bwpipe.errors import UsageError

NAMES = ("pipeline.yaml", "train.yaml")


def template(name: str) -> Path:
    """The path of the installed graph file with this name."""
    return Path(str(files("bwpipe.graph"))) / "templates" / name


def write_templates(folder: Path) -> list[Path]:
    """Write the graph files into a folder, created if missing. Raises UsageError; existing files are never overwritten."""
    folder = expand_user(folder)
    paths = [folder / name for name in NAMES]
    if existing := [path for path in paths if path.exists()]:
        raise UsageError(f"{existing[0]}: this file already exists; choose another folder, or remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            path.write_bytes(template(path.name).read_bytes())
    except OSError as error:
        raise UsageError(f"{folder}: can't write into it ({error.strerror}); choose another folder") from error
    return paths
