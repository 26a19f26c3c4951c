"""The `save` stage."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

from pydantic import PrivateAttr

from bwpipe import NoEffect, RunAborted, RunContext, Stage, UsageError, stage
from bwpipe.core.atomic_file import SUFFIX, WORK_FOLDER, unwritable_reason, write_atomically
from bwpipe.core.console import printable
from bwpipe.core.inputs import expand_user
from bwpipe.nn.checkpoint import Checkpoint, load, serialise_checkpoint
from bwpipe.training.job import FittedNetwork, UpcomingTraining
from bwpipe.training.model_card import card, is_unmodified
from bwpipe.version import __version__

_ABANDONED = 600.0
"""Age in seconds at which an unfinished checkpoint counts as abandoned; writing one takes a few seconds."""


@stage("save")
class Save(Stage):
    """Writes a fitted network to a checkpoint with a record of its training, and a model card beside it."""

    path: Path
    """Path of the checkpoint, ending in .safetensors; the model card has the same name with .md."""
    half: bool = True
    """Store the weights as float16, in half the space."""
    licence: str = "not stated"
    """Licence terms of the weights."""
    data: str = "not stated"
    """Description of the training photographs and their licence terms, for the model card."""
    overwrite: NoEffect[bool] = False
    """Overwrite an existing checkpoint of another training, and its model card."""

    _run: RunContext = PrivateAttr()

    def setup(self, run: RunContext) -> None:
        """Check the path and any existing files. Raises UsageError."""
        self._run = run
        if self._target.suffix != ".safetensors":
            raise UsageError(f"save.path: {self.path} does not end in .safetensors; rename it")
        target, card_path = self._target, self._target.with_suffix(".md")
        run.claim(str(target.resolve()), "give each `save` a `path` of its own")
        if reason := unwritable_reason(target.parent):
            raise UsageError(f"save.path: {reason}; choose another one")
        if self.overwrite:
            return
        is_ours = card_path.exists() and is_unmodified(card_path.read_bytes())
        if card_path.exists() and not target.exists():  # an interrupted `save` leaves a checkpoint without a card, not this
            what = "the model card of a missing checkpoint" if is_ours else "not a model card of bwpipe"
            raise UsageError(f"save.path: {card_path} exists and is {what}; move it away, or choose another name")
        if target.exists():
            if _checkpoint_at(target) is None:
                raise UsageError(f"save.path: {target} exists and is not a checkpoint of bwpipe; choose another name")
            if run.restart:
                raise UsageError(
                    f"save.path: {target} is the checkpoint of another training; move it away, or set `save.overwrite: true`"
                )
            if card_path.exists() and not is_ours:
                raise UsageError(f"save.path: {card_path} was edited by hand; move it away, or set `save.overwrite: true`")

    def expect(self, upcoming: UpcomingTraining) -> None:
        """Refuse, before the first step, the path of another training's checkpoint. Raises UsageError."""
        if self._is_foreign(upcoming.recipe):
            raise UsageError(
                f"save.path: {self._target} is the checkpoint of another training; move it away, or set `save.overwrite: true`"
            )

    def stream(self, items: Iterator[FittedNetwork]) -> Iterator[Path]:
        """Write the network."""
        return map(self._save, items)

    @property
    def _target(self) -> Path:
        return expand_user(self.path)

    def _is_foreign(self, recipe: str) -> bool:
        """Whether the path holds a file that is not from a training with this recipe and must not be overwritten."""
        if self.overwrite or not self._target.exists():
            return False
        found = _checkpoint_at(self._target)
        return found is None or found.training.get("recipe") != recipe

    def _save(self, fitted: FittedNetwork) -> Path:
        network, target = fitted.network, self._target
        checkpoint = Checkpoint(
            network=network.registered,
            options=network.options.model_dump(mode="json"),
            version=__version__,
            licence=self.licence,
            training={"data": self.data, **_printable(fitted.training), "weights": "float16" if self.half else "float32"},
        )
        if self._is_foreign(fitted.training["recipe"]):  # it appeared while this one was being fitted
            raise RunAborted(
                f"{target} is the checkpoint of another training; move it away, or set `save.overwrite: true`, "
                "and start again without --restart (the fitted weights are kept)"
            )
        card_path = target.with_suffix(".md")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _clear_old(target.parent / WORK_FOLDER)
            restored = Checkpoint.model_validate_json(checkpoint.model_dump_json())  # JSON has no infinity
            weights = serialise_checkpoint(network, checkpoint, half=self.half)
            # The checkpoint first: if interrupted between the two, the next start recognises it as its own.
            for path, data in ((target, weights), (card_path, card(target.stem, restored).encode())):
                if not (path.exists() and path.read_bytes() == data):
                    write_atomically(path, data)
            with suppress(OSError):  # others may have unfinished files there
                (target.parent / WORK_FOLDER).rmdir()
        except OSError as error:
            raise RunAborted(
                f"{target}: {error.strerror}; free some space and start again (the fitted weights are kept)"
            ) from error
        self._run.note(f"save: {target}, and its model card {card_path.name}")
        return target


def _checkpoint_at(path: Path) -> Checkpoint | None:
    """The metadata of a checkpoint; None for a file that is not one."""
    try:
        return load(path)[1]
    except UsageError:
        return None


def _printable(value: Any) -> Any:
    """A training record as text that can be encoded everywhere, which file names need not be."""
    if isinstance(value, Mapping):
        return {printable(key): _printable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_printable(each) for each in value]
    return printable(value) if isinstance(value, str) else value


def _clear_old(work: Path) -> None:
    """Remove unfinished checkpoints of killed runs; younger ones may belong to a run in progress.

    Another `save` may publish its files, and remove the empty folder, while this one looks.
    """
    try:
        found = list(work.iterdir())
    except FileNotFoundError:
        return
    for path in found:
        if path.name.endswith((f"{SUFFIX}.safetensors", f"{SUFFIX}.md")):
            with suppress(FileNotFoundError):
                if time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink()
