"""A training, from its first step or where it was stopped to its end: the work of one process, which may be one of several."""

import ctypes
import math
import platform
from collections.abc import Callable
from contextlib import closing
from time import monotonic

from lightning_fabric import Fabric

from bwpipe.core.atomic_file import write_atomically
from bwpipe.errors import RunAborted, RunStopped
from bwpipe.nn.checkpoint import Checkpoint, serialise_checkpoint
from bwpipe.training.job import BEST, Task
from bwpipe.training.monitor.monitor import Monitor
from bwpipe.training.step import TrainStep
from bwpipe.training.training_state import States, forget
from bwpipe.training.validation import best, render_sheet, validate
from bwpipe.version import __version__

_SHOWN = 8
"""How many pictures of the validation are on the sheet."""


class Trainer:
    """A training in one process; the first of several validates, keeps and tells."""

    def __init__(
        self,
        task: Task,
        fabric: Fabric,
        *,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        tick: Callable[[], None],
    ) -> None:
        """Build everything, and go on from the last state there is.

        Args:
            task: The training.
            fabric: Launched; says which of how many processes this is, and on which device it works.
            say: Shows a line to the user.
            warn: Shows a warning.
            tick: Called before each step; raises RunStopped where the training is to stop.

        Raises:
            UsageError: Something does not fit together.
            OSError: An earlier state can't be removed.
        """
        self._task, self._fabric, self._say, self._tick = task, fabric, say, tick
        if fabric.device.type == "cpu":
            keep_freed_memory()
        self._stepper = TrainStep(task.options, task.data, fabric)
        if task.restart:
            fabric.barrier()  # what is kept may be worth days: it goes only when every process could build the new training
            if fabric.is_global_zero:
                forget(task.folder)
            fabric.barrier()
        self._states = States(task.folder, task.recipe, self._stepper.parts)
        self._tally = self._states.resume(warn)
        self._kept = monotonic()

    def run(self) -> list[dict[str, float]]:
        """Train to the end.

        Returns:
            The figures of all validations.

        Raises:
            RunStopped: It is to stop; its state was kept.
            RunAborted: A loss is not finite.
            OSError: The state can't be kept; the one before is unharmed.
        """
        if not self._fabric.is_global_zero:
            self._go(None)
        elif self._due() or not self._over():
            page = self._task.folder / "progress.html"
            steps = f"{self._tally.step} of {self._stepper.course.steps}"
            self._say(f"fit: {steps} steps are made; {page} shows how far it is")
            with closing(Monitor(self._task, self._tally, self._stepper.course, self._say)) as telling:
                self._go(telling)
        else:
            self._say("fit: the training is at its end already")
        return self._tally.history

    def _go(self, telling: Monitor | None) -> None:
        tally = self._tally
        try:
            while self._due() or not self._over():
                self._stop_if_asked()
                if self._due():
                    self._validate(telling)
                else:
                    values = self._step()
                    if telling:
                        telling.stepped(tally.step, values)
                if telling and (self._measured() or monotonic() - self._kept >= self._task.options.keep):
                    self._keep()
        except RunStopped:
            if telling:
                self._keep()
            raise

    def _stop_if_asked(self) -> None:
        """Raise RunStopped in all processes where one was asked to stop."""
        asked = False
        try:
            self._tick()
        except RunStopped:
            asked = True
        if self._stepper.agreed(asked):
            raise RunStopped

    def _due(self) -> bool:
        """Whether an epoch is over and not measured yet."""
        return self._tally.step in self._stepper.course.ends and not self._measured()

    def _measured(self) -> bool:
        """Whether the weights as they are were measured."""
        history = self._tally.history
        return bool(history) and history[-1]["step"] == self._tally.step

    def _over(self) -> bool:
        """Whether all steps are made, or there was no better validation for too long."""
        patience, history = self._task.options.patience, self._tally.history
        return self._tally.step >= self._stepper.course.steps or bool(
            patience and history and len(history) - best(history, self._task.options.goal) >= patience
        )

    def _step(self) -> dict[str, float]:
        tally = self._tally
        values = self._stepper.step(tally.step)
        harmless = {"gradient"} if self._task.options.precision == "float16" else set()
        self._refuse({name: value for name, value in values.items() if name not in harmless}, f"at step {tally.step + 1}")
        tally.step += 1
        tally.loss += values["loss"]
        return values

    def _refuse(self, figures: dict[str, float], when: str) -> None:
        """Raise RunAborted where a figure is not finite; the weights that gave it are not kept."""
        if bad := [name for name, value in figures.items() if not math.isfinite(value)]:
            if self._fabric.is_global_zero:
                self._states.drop(self._tally.step)
            raise RunAborted(
                f"{bad[0]} is {figures[bad[0]]} {when}, in epoch {len(self._tally.history) + 1}; "
                "start over (`bwpipe train --restart`) with a lower `fit.rate`"
            )

    def _validate(self, telling: Monitor | None) -> None:
        """Measure, publish the weights if they are the best, and tell. Raises RunAborted."""
        tally, stepper, task = self._tally, self._stepper, self._task
        figures = self._fabric.broadcast(self._figures() if telling else {})
        if not figures:
            raise RunStopped
        self._refuse(figures, f"in the validation after step {tally.step}")
        tally.history.append(figures)
        tally.loss = 0.0
        if telling:
            if best(tally.history, task.options.goal) == len(tally.history):
                write_atomically(task.folder / BEST, serialise_checkpoint(stepper.fitted, self._checkpoint()))
            telling.validated(tally.history, render_sheet(stepper.fitted, stepper.shower, task.data.validation[:_SHOWN]))

    def _figures(self) -> dict[str, float]:
        """Those of the weights as they are; none where the training is to stop meanwhile."""
        tally, stepper, task = self._tally, self._stepper, self._task
        try:
            figures = validate(
                stepper.fitted,
                stepper.losses,
                stepper.shower,
                task.data.validation,
                batch=task.options.batch,
                autocast=stepper.autocast,
                tick=self._tick,
            )
        except RunStopped:
            return {}
        steps = tally.step - int(tally.history[-1]["step"] if tally.history else 0)
        return {"step": tally.step, "epoch": len(tally.history) + 1, "training_loss": tally.loss / steps, **figures}

    def _keep(self) -> None:
        self._states.keep(self._tally)
        self._kept = monotonic()

    def _checkpoint(self) -> Checkpoint:
        net = self._stepper.fitted
        return Checkpoint(
            network=net.registered,
            options=net.options.model_dump(mode="json"),
            version=__version__,
            training={"recipe": self._task.recipe, "history": self._tally.history},
        )


# malloc.h
_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2
_KEPT, _PAD = 1 << 30, 1 << 28


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next step, instead of handing large pieces back to the kernel each time.

    Getting them again costs a page fault for every 4 KiB: with GNU's library the loss `chroma_bins` takes 45 ms of a core
    instead of 125 (32 pictures, 407 bins). It holds for the whole process. With another library nothing is done.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _PAD)):
            library.mallopt(option, value)
