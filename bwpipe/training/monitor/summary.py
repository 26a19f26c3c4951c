"""What a training says of itself in its folder, so that the pages of trainings beside it can compare them."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bwpipe.core.atomic_file import WORK_FOLDER, write_atomically
from bwpipe.training.options import TrainingOptions

_FILE = Path(WORK_FOLDER, "summary.json")
_MOST = 30
"""Maximum number of other trainings that are compared: the latest ones."""


class Summary(BaseModel):
    """A training in a few figures.

    Attributes:
        title: Its title.
        step: Number of steps done.
        goal: The figure by which its best validation is selected.
        best: Its best validation; None before the first.
        settings: Its options, those with other values than the default ones.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")

    title: str
    step: int
    goal: str
    best: dict[str, float] | None
    settings: dict[str, str]


def settings_of(options: TrainingOptions) -> dict[str, str]:
    """The options of a training that differ from the defaults, nested ones as `augment.flip`."""
    return dict(_flat(options.model_dump(mode="json", exclude_defaults=True)))


def _flat(values: dict[str, Any], before: str = "") -> Any:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", f"{value:g}" if isinstance(value, float) else str(value)


def write_summary(folder: Path, summary: Summary) -> None:
    """Write it into the training's folder. Raises OSError."""
    write_atomically(folder / _FILE, summary.model_dump_json().encode(), folder=folder)


def other_trainings(folder: Path) -> list[tuple[str, Summary]]:
    """The trainings in folders beside this one, by the names of their folders, the latest first."""
    files = [path for path in folder.parent.glob(f"*/{_FILE}") if path.parent.parent.name != folder.name]
    found = []
    for path in sorted(files, key=_written, reverse=True)[:_MOST]:
        try:
            found.append((path.parent.parent.name, Summary.model_validate_json(path.read_bytes())))
        except (OSError, ValidationError):  # removed meanwhile, or of another version
            continue
    return found


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
