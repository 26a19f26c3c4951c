"""The graph files installed with the package."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from bwpipe.core.inputs import expand_user
from bwpipe.errors import UsageError

NAMES = ("pipeline.yaml", "train.yaml")
"""What `bwpipe init` writes."""
FINE_TUNE = "fine-tune.yaml"
"""What `bwpipe init --finetune` writes."""
ADAPT = "adapt.yaml"
"""What `bwpipe init --adapt` writes."""
SCHEMA = "bwpipe.schema.json"
"""The schema that the graph files name for editors."""


def template(name: str) -> Path:
    """The path of the installed graph file or recipe with this name."""
    path = Path(str(files("bwpipe.graph"))) / "templates" / name
    return path if path.exists() else _recipes() / name


def recipe_names() -> list[str]:
    """The names of the recipes, the graphs by which the shipped weights were trained."""
    return sorted(path.name for path in _recipes().glob("*.yaml"))


def _recipes() -> Path:
    """The folder of recipes: `bwpipe/recipes` where bwpipe is installed, `recipes` in a checkout."""
    package = Path(str(files("bwpipe")))
    return next((folder for folder in (package / "recipes", package.parent / "recipes") if folder.is_dir()), package)


def write_templates(folder: Path, names: Sequence[str] = NAMES, others: Mapping[str, str] | None = None) -> list[Path]:
    """Write graph files into a folder, created if missing; existing ones are never overwritten.

    Args:
        folder: The folder.
        names: The graph files.
        others: The texts of generated files beside them, by name; an existing one is replaced.

    Returns:
        The paths of all files.

    Raises:
        UsageError: One of the graph files exists, or a file can't be written.
    """
    folder = expand_user(folder)
    paths = [folder / name for name in names]
    if existing := [path for path in paths if path.exists()]:
        raise UsageError(f"{existing[0]}: this file already exists; choose another folder, or remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            path.write_bytes(template(path.name).read_bytes())
        for name, text in (others or {}).items():
            paths.append(folder / name)
            paths[-1].write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: can't write into it ({error.strerror}); choose another folder") from error
    return paths
