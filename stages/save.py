"""The `save` stage."""

from collections.abc import Iterator
from pathlib import Path

from bwpipe import NoEffect, Run, Stage, UsageError, __version__, stage
from bwpipe.card import card
from bwpipe.draft import Draft
from bwpipe.network import Checkpoint, load, save
from bwpipe.training import Fitted


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
    """Write over another training's checkpoint that has this name."""

    def setup(self, run: Run) -> None:
        """Check the name. Raises UsageError."""
        if self.path.suffix != ".safetensors":
            raise UsageError(f"save.path: {self.path} does not end in .safetensors")
        if self._target.exists() and not self.overwrite:
            load(self._target)  # what is no checkpoint is not to be written over

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
        written, described = (Draft(path, target.parent) for path in (target, target.with_suffix(".md")))
        try:
            save(written.path, network, checkpoint, half=self.half)
            described.path.write_text(card(target.stem, checkpoint), encoding="utf-8")
            if target.exists() and not (self.overwrite or _same(written)):
                raise UsageError(
                    f"{target} is the checkpoint of another training; move it away, or set `save.overwrite: true`, "
                    "and run this again: what was fitted is kept"
                )
            for draft in (described, written):
                if not _same(draft):
                    draft.settle()
                    draft.publish()
        finally:
            for draft in (described, written):
                draft.discard()
        return target


def _same(draft: Draft) -> bool:
    """Whether the file of that name is the very same already."""
    return draft.target.exists() and draft.target.read_bytes() == draft.path.read_bytes()
