"""The `save` stage."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import time

from pydantic import PrivateAttr

from bwpipe import NoEffect, Run, RunAborted, Stage, UsageError, __version__, stage
from bwpipe.card import card
from bwpipe.draft import SUFFIX, WORK_FOLDER, publish, why_unwritable
from bwpipe.network import Checkpoint, load, packed
from bwpipe.training import Fitted

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

    _run: Run = PrivateAttr()

    def setup(self, run: Run) -> None:
        """Check the name, and what has it. Raises UsageError."""
        self._run = run
        target, described = self._target, self._target.with_suffix(".md")
        if target.suffix != ".safetensors":
            raise UsageError(f"save.path: {self.path} does not end in .safetensors")
        run.claim(str(target), "give each `save` a `path` of its own")
        if reason := why_unwritable(target.parent):
            raise UsageError(f"save.path: {reason}; choose another one")
        if self.overwrite:
            return
        if described.exists() and not target.exists():
            raise UsageError(f"save.path: {described} is there, and is no model card of ours; choose another name")
        if target.exists():
            if (found := _trained(target)) is None:
                raise UsageError(f"save.path: {target} is there, and is no checkpoint of bwpipe; choose another name")
            if run.restart:
                raise UsageError(
                    f"save.path: {target} is the checkpoint of another training; move it away, or set `save.overwrite: true`"
                )
            if described.exists() and described.read_text(encoding="utf-8") != card(target.stem, found):
                raise UsageError(f"save.path: {described} was changed by hand; move it away, or set `save.overwrite: true`")

    def stream(self, items: Iterator[Fitted]) -> Iterator[Path]:
        """Write the network."""
        return map(self._save, items)

    @property
    def _target(self) -> Path:
        return self.path.expanduser()

    def _save(self, fitted: Fitted) -> Path:
        network, target = fitted.network, self._target
        checkpoint = Checkpoint(
            network=network.registered,
            options=network.options.model_dump(mode="json"),
            version=__version__,
            licence=self.licence,
            training={"data": self.data, **fitted.training, "weights": "float16" if self.half else "float32"},
        )
        if target.exists() and not self.overwrite:
            found = _trained(target)
            if found is None or found.training.get("recipe") != fitted.training["recipe"]:
                raise RunAborted(
                    f"{target} is the checkpoint of another training; move it away, or set `save.overwrite: true`, "
                    "and start again without --restart: what was fitted is kept"
                )
        described = target.with_suffix(".md")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _clear_old(target.parent / WORK_FOLDER)
            for path, data in (
                (described, card(target.stem, checkpoint).encode()),
                (target, packed(network, checkpoint, half=self.half)),
            ):
                if not (path.exists() and path.read_bytes() == data):
                    publish(path, data)
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


def _clear_old(work: Path) -> None:
    """Remove what killed runs left of a checkpoint; whatever is younger may be another one's, which is at work."""
    for suffix in (".safetensors", ".md"):
        for path in work.glob(f"*{SUFFIX}{suffix}"):
            if time() - path.stat().st_mtime > _OLD:
                path.unlink(missing_ok=True)
