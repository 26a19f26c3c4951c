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
from bwpipe.nn.checkpoint import Checkpoint, load, serialise_checkpoint
from bwpipe.training.job import FittedNetwork, UpcomingTraining
from bwpipe.training.model_card import card, untouched
from bwpipe.version import __version__

_OLD = 600.0
"""Seconds after which an unfinished checkpoint has been left; writing one takes a few."""


@stage("save")
class Save(Stage):
    """Writes a fitted network to a checkpoint that says how it was made, and a model card beside it."""

    path: Path
    """The checkpoint, a name that ends in .safetensors; the model card has the same name with .md."""
    half: bool = True
    """Keep the weights as float16, in half the space."""
    licence: str = "not stated"
    """Terms of the weights."""
    data: str = "not stated"
    """What pictures it was fitted to, and their terms, for the model card."""
    overwrite: NoEffect[bool] = False
    """Write over the checkpoint of another training, and its card, that have these names."""

    _run: RunContext = PrivateAttr()

    def setup(self, run: RunContext) -> None:
        """Check the name, and what has it. Raises UsageError."""
        self._run = run
        target, described = self._target, self._target.with_suffix(".md")
        if target.suffix != ".safetensors":
            raise UsageError(f"save.path: {self.path} does not end in .safetensors")
        run.claim(str(target.resolve()), "give each `save` a `path` that no other stage has")
        if reason := unwritable_reason(target.parent):
            raise UsageError(f"save.path: {reason}; choose another one")
        if self.overwrite:
            return
        ours = described.exists() and untouched(described.read_bytes())
        if described.exists() and not target.exists():  # a `save` that was stopped leaves a checkpoint without a card instead
            whose = "the model card of a checkpoint that is gone" if ours else "no model card of ours"
            raise UsageError(f"save.path: {described} is there, and is {whose}; move it away, or choose another name")
        if target.exists():
            if _trained(target) is None:
                raise UsageError(f"save.path: {target} is there, and is no checkpoint of bwpipe; choose another name")
            if run.restart:
                raise UsageError(
                    f"save.path: {target} is the checkpoint of another training; move it away, or set `save.overwrite: true`"
                )
            if described.exists() and not ours:
                raise UsageError(f"save.path: {described} was changed by hand; move it away, or set `save.overwrite: true`")

    def expect(self, coming: UpcomingTraining) -> None:
        """Refuse, before the first step, a name that the checkpoint of another training has. Raises UsageError."""
        if self._others(coming.recipe):
            raise UsageError(
                f"save.path: {self._target} is the checkpoint of another training; move it away, or set `save.overwrite: true`"
            )

    def stream(self, items: Iterator[FittedNetwork]) -> Iterator[Path]:
        """Write the network."""
        return map(self._save, items)

    @property
    def _target(self) -> Path:
        return self.path.expanduser()

    def _others(self, recipe: str) -> bool:
        """Whether the name is taken by what did not come of a training with this recipe, and must be kept."""
        if self.overwrite or not self._target.exists():
            return False
        found = _trained(self._target)
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
        if self._others(fitted.training["recipe"]):  # it was put there while this one was fitted
            raise RunAborted(
                f"{target} is the checkpoint of another training; move it away, or set `save.overwrite: true`, "
                "and start again without --restart: what was fitted is kept"
            )
        described = target.with_suffix(".md")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _clear_old(target.parent / WORK_FOLDER)
            as_read = Checkpoint.model_validate_json(checkpoint.model_dump_json())  # JSON has no infinity
            weights = serialise_checkpoint(network, checkpoint, half=self.half)
            # The checkpoint first: should this be stopped between the two, the next start knows it for its own.
            for path, data in ((target, weights), (described, card(target.stem, as_read).encode())):
                if not (path.exists() and path.read_bytes() == data):
                    write_atomically(path, data)
            with suppress(OSError):  # others may have their drafts there
                (target.parent / WORK_FOLDER).rmdir()
        except OSError as error:
            raise RunAborted(f"{target}: {error.strerror}; make room and start again: what was fitted is kept") from error
        self._run.note(f"save: {target}, and its model card {described.name}")
        return target


def _trained(path: Path) -> Checkpoint | None:
    """What a checkpoint says of itself; None for a file that is none."""
    try:
        return load(path)[1]
    except UsageError:
        return None


def _printable(told: Any) -> Any:
    """What is told of a training, as text that can be written everywhere: names of files need not be such."""
    if isinstance(told, Mapping):
        return {printable(key): _printable(each) for key, each in told.items()}
    if isinstance(told, list):
        return [_printable(each) for each in told]
    return printable(told) if isinstance(told, str) else told


def _clear_old(work: Path) -> None:
    """Remove what killed runs left of a checkpoint; whatever is younger may be another one's, which is at work."""
    for suffix in (".safetensors", ".md"):
        for path in work.glob(f"*{SUFFIX}{suffix}"):
            if time() - path.stat().st_mtime > _OLD:
                path.unlink(missing_ok=True)
