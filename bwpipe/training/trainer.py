"""Runs a training, from its start or its last saved state, to its end, in one process of one or more."""

import math
from collections.abc import Callable
from contextlib import closing
from time import monotonic

from bwpipe.core.atomic_file import write_atomically
from bwpipe.core.memory import keep_freed_memory
from bwpipe.errors import RunAborted, RunStopped
from bwpipe.nn.checkpoint import Checkpoint, serialise_checkpoint
from bwpipe.training.fabric import Fabric
from bwpipe.training.job import BEST, Task
from bwpipe.training.monitor.monitor import Monitor
from bwpipe.training.step import TrainStep
from bwpipe.training.training_state import States, remove_states
from bwpipe.training.validation import best, render_sheet, validate
from bwpipe.version import __version__

_SHEET_IMAGES = 8
"""Number of validation images on the sheet."""


class Trainer:
    """A training in one process; the first of several also validates, saves and reports."""

    def __init__(
        self,
        task: Task,
        fabric: Fabric,
        *,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        tick: Callable[[], None],
    ) -> None:
        """Build everything and resume from the last saved state, if any.

        Args:
            task: The training.
            fabric: Launched; knows this process's rank, the number of processes and the device.
            say: Shows a line to the user.
            warn: Shows a warning.
            tick: Called before each step; raises RunStopped if the training is to stop.

        Raises:
            UsageError: The network, the dataset and the options do not fit together.
            OSError: An earlier state cannot be removed.
        """
        self._task, self._fabric, self._say, self._tick = task, fabric, say, tick
        if fabric.device.type == "cpu":
            keep_freed_memory(of_any_size=True)
        self._stepper = TrainStep(task.options, task.data, fabric)
        if task.restart:
            fabric.barrier()  # saved states may be worth days: remove them only once every process has built the new training
            if fabric.is_global_zero:
                remove_states(task.folder)
            fabric.barrier()
        self._states = States(task.folder, task.recipe, self._stepper.parts)
        self._counters = self._states.resume(warn)
        self._saved_at = monotonic()

    def run(self) -> list[dict[str, float]]:
        """Train to the end.

        Returns:
            The figures of every validation.

        Raises:
            RunStopped: It was asked to stop; its state was saved.
            RunAborted: A loss is not finite.
            OSError: The state cannot be saved; the previous one is intact.
        """
        if not self._fabric.is_global_zero:
            self._loop(None)
        elif self._validation_due() or not self._is_finished():
            page = self._task.folder / "progress.html"
            steps = f"{self._counters.step} of {self._stepper.schedule.steps}"
            self._say(f"fit: {steps} steps done; {page} shows the progress")
            with closing(Monitor(self._task, self._counters, self._stepper.schedule, self._say)) as monitor:
                self._loop(monitor)
        else:
            self._say("fit: the training is already complete")
        return self._counters.history

    def _loop(self, monitor: Monitor | None) -> None:
        counters = self._counters
        try:
            while self._validation_due() or not self._is_finished():
                self._stop_if_asked()
                if self._validation_due():
                    self._validate(monitor)
                else:
                    values = self._step()
                    if monitor:
                        monitor.stepped(counters.step, values)
                if monitor and (self._is_validated() or monotonic() - self._saved_at >= self._task.options.keep):
                    self._save_state()
        except RunStopped:
            if monitor:
                self._save_state()
            raise

    def _stop_if_asked(self) -> None:
        """Raise RunStopped in all processes if any was asked to stop."""
        asked = False
        try:
            self._tick()
        except RunStopped:
            asked = True
        if self._stepper.any_process(asked):
            raise RunStopped

    def _validation_due(self) -> bool:
        """Whether an epoch is complete but not yet validated."""
        return self._counters.step in self._stepper.schedule.ends and not self._is_validated()

    def _is_validated(self) -> bool:
        """Whether the current weights have been validated."""
        history = self._counters.history
        return bool(history) and history[-1]["step"] == self._counters.step

    def _is_finished(self) -> bool:
        """Whether all steps are done, or validation has not improved for too long (`patience`)."""
        patience, history = self._task.options.patience, self._counters.history
        return self._counters.step >= self._stepper.schedule.steps or bool(
            patience and history and len(history) - best(history, self._task.options.goal) >= patience
        )

    def _step(self) -> dict[str, float]:
        counters = self._counters
        values = self._stepper.step(counters.step)
        allowed = {"gradient"} if self._task.options.precision == "float16" else set()
        self._check_finite(
            {name: value for name, value in values.items() if name not in allowed}, f"at step {counters.step + 1}"
        )
        counters.step += 1
        counters.loss += values["loss"]
        return values

    def _check_finite(self, figures: dict[str, float], when: str) -> None:
        """Raise RunAborted if a figure is not finite; the weights that gave it are not kept."""
        if invalid := [name for name, value in figures.items() if not math.isfinite(value)]:
            if self._fabric.is_global_zero:
                self._states.remove(self._counters.step)
            raise RunAborted(
                f"{invalid[0]} is {figures[invalid[0]]} {when}, in epoch {len(self._counters.history) + 1}; "
                "start over (`bwpipe train --restart`) with a lower `fit.rate`"
            )

    def _validate(self, monitor: Monitor | None) -> None:
        """Validate, publish the weights if they are the best so far, and report. Raises RunAborted."""
        counters, stepper, task = self._counters, self._stepper, self._task
        figures = self._fabric.broadcast(self._figures() if monitor else {})
        if not figures:
            raise RunStopped
        self._check_finite(figures, f"in the validation after step {counters.step}")
        counters.history.append(figures)
        counters.loss = 0.0
        if monitor:
            if best(counters.history, task.options.goal) == len(counters.history):
                write_atomically(task.folder / BEST, serialise_checkpoint(stepper.fitted, self._checkpoint()))
            monitor.validated(
                counters.history, render_sheet(stepper.fitted, stepper.augmenter, task.data.validation[:_SHEET_IMAGES])
            )

    def _figures(self) -> dict[str, float]:
        """The figures of the current weights; empty if the training was stopped meanwhile."""
        counters, stepper, task = self._counters, self._stepper, self._task
        try:
            figures = validate(
                stepper.fitted,
                stepper.losses,
                stepper.augmenter,
                task.data.validation,
                batch=task.options.batch,
                autocast=stepper.autocast,
                tick=self._tick,
            )
        except RunStopped:
            return {}
        steps = counters.step - int(counters.history[-1]["step"] if counters.history else 0)
        return {"step": counters.step, "epoch": len(counters.history) + 1, "training_loss": counters.loss / steps, **figures}

    def _save_state(self) -> None:
        self._states.save(self._counters)
        self._saved_at = monotonic()

    def _checkpoint(self) -> Checkpoint:
        net = self._stepper.fitted
        return Checkpoint(
            network=net.registered,
            options=net.options.model_dump(mode="json"),
            version=__version__,
            training={"recipe": self._task.recipe, "history": self._counters.history},
        )
