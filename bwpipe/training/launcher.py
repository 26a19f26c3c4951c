"""Runs a training in this process, or in one process per device."""

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Event as ThreadEvent
from threading import Thread
from time import monotonic
from typing import Any, Generic, TypeVar

import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from bwpipe.core import plugins
from bwpipe.core.console import print_lines
from bwpipe.core.context import RunContext
from bwpipe.errors import BwpipeError, RunAborted, RunStopped, format_error
from bwpipe.nn.device import cores
from bwpipe.training.fabric import Fabric
from bwpipe.training.job import Task
from bwpipe.training.trainer import Trainer

T = TypeVar("T")

_POLL_INTERVAL = 0.2
"""Seconds between checks whether the run is to stop."""
_GRACE_PERIOD = 5.0
"""Seconds that worker processes have to stop before they are killed."""
_CHATTY = ("lightning_fabric", "lightning.fabric", "torch.multiprocessing")
"""Loggers that are silenced: bwpipe reports what matters itself."""


def train(task: Task, device: torch.device, run: RunContext) -> list[dict[str, float]]:
    """Run a training to its end.

    Args:
        task: The training; with several devices its dataset must be on disk.
        device: The device; with several, the first of its kind.
        run: The run it is part of.

    Returns:
        The figures of every validation.

    Raises:
        RunStopped: The run was asked to stop.
        BwpipeError: The training cannot continue.
        OSError: Its state cannot be saved.
    """
    with _quiet_loggers():
        return _train(task, device, run)


def _train(task: Task, device: torch.device, run: RunContext) -> list[dict[str, float]]:
    count = task.options.devices
    if count == 1:
        devices = [device.index or 0] if device.type == "cuda" else 1
        fabric = Fabric(accelerator=device.type, devices=devices)
        with _torch_threads(task.options.threads):
            return Trainer(task, fabric, say=run.note, warn=run.warn, tick=run.raise_if_stopped).run()
    context = multiprocessing.get_context("spawn")
    stop, errors = context.Event(), context.SimpleQueue()
    with _watchdog(run, stop, errors), _signals_blocked():
        try:
            history = launch(partial(_worker, task=task, folders=run.plugins, stop=stop, errors=errors), device.type, count)
        except (ProcessRaisedException, ProcessExitedException) as error:
            run.raise_if_stopped()
            if not errors.empty():
                raise errors.get() from error
            raise RunAborted("a training process died; run the same command again to resume") from error
        finally:
            errors.close()
    run.raise_if_stopped()
    assert history is not None  # None only if the training was stopped
    return history


def launch(work: Callable[[Fabric], T], kind: str, count: int) -> T:
    """Run a function in several processes, one per device.

    Args:
        work: Called in each process with a launched Fabric; must be picklable.
        kind: The device type, such as "cuda"; any number of processes can share a "cpu".
        count: Number of processes.

    Returns:
        The result of the first process.

    Raises:
        ProcessRaisedException, ProcessExitedException: A process failed; the others were terminated.
    """
    result: T = Fabric(accelerator=kind, devices=count, strategy="ddp_spawn").launch(_Work(work))
    return result


class _Work(Generic[T]):
    """A function for a process of its own. Unpickled there before Lightning sets up the process group, it silences loggers."""

    def __init__(self, work: Callable[[Fabric], T]) -> None:
        self._work = work

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle it in the new process, which is ours alone."""
        self.__dict__.update(state)
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)

    def __call__(self, fabric: Fabric) -> T:
        """Run the function, then leave the process group: a process that merely exits takes the others down."""
        result = self._work(fabric)
        fabric.barrier()
        torch.distributed.destroy_process_group()
        return result


def _worker(
    fabric: Fabric, *, task: Task, folders: tuple[Path, ...], stop: Event, errors: Any
) -> list[dict[str, float]] | None:
    """The work of one of several processes; None if it was stopped."""
    parent = multiprocessing.parent_process()

    def tick() -> None:
        if not (parent and parent.is_alive()):
            os._exit(1)  # another training may have locked the folder by now
        if stop.is_set():
            raise RunStopped

    def say(text: str) -> None:
        print_lines(text, sys.stderr)

    def note(text: str) -> None:
        if not task.quiet:
            say(text)

    try:
        plugins.load(folders)
        tick()
        with _torch_threads(max(1, (task.options.threads or cores()) // fabric.world_size)):
            return Trainer(task, fabric, say=note, warn=lambda text: say(f"warning: {text}"), tick=tick).run()
    except RunStopped:
        return None
    except (BwpipeError, OSError) as error:
        errors.put(error)
        raise
    except Exception as error:
        errors.put(RunAborted(format_error(error)))
        raise


@contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Restrict the loggers in `_CHATTY` to errors."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _torch_threads(count: int | None) -> Iterator[None]:
    """Set torch's number of threads for computations of this thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals to the process group in processes started within: they stop when the parent asks them to."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _watchdog(run: RunContext, stop: Event, errors: Any) -> Iterator[None]:
    """Ask the processes started within to stop when the run does or one of them fails; kill those that do not respond."""
    over = ThreadEvent()
    others = multiprocessing.active_children()

    def watch() -> None:
        stopped_at: float | None = None
        while not over.wait(_POLL_INTERVAL):
            if stopped_at is None and (_raises(run.raise_if_stopped) or not errors.empty()):
                stopped_at = monotonic()
                stop.set()
            if stopped_at is not None and monotonic() - stopped_at > _GRACE_PERIOD:
                for process in multiprocessing.active_children():
                    if process not in others:
                        process.kill()

    thread = Thread(target=watch, name="watch")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _raises(call: Callable[[], None]) -> bool:
    try:
        call()
    except RunStopped:
        return True
    return False
