"""The two graph files that come along, for those who have no checkout."""

from importlib.resources import files
from pathlib import Path

from bwpipe.errors import UsageError

NAMES = ("pipeline.yaml", "train.yaml")


def template(name: str) -> Path:
    """The file of that name that was installed along with the package."""
    return Path(str(files("bwpipe.graph"))) / "templates" / name


def write_templates(folder: Path) -> list[Path]:
    """Write the graph files into a folder, which is created if missing. Raises UsageError, with nothing written."""
    paths = [folder / name for name in NAMES]
    if there := [path for path in paths if path.exists()]:
        raise UsageError(f"{there[0]}: there is such a file already; choose another folder, or remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            path.write_bytes(template(path.name).read_bytes())
    except OSError as error:
        raise UsageError(f"{folder}: can't write into it ({error.strerror}); choose another folder") from error
    return paths
