"""Runs a training here, or in one process for each of several devices."""

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
from threading import Event as Signal
from threading import Thread
from time import monotonic
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from bwpipe.core import plugins
from bwpipe.core.console import printable
from bwpipe.core.context import RunContext
from bwpipe.errors import BwpipeError, RunAborted, RunStopped, format_error
from bwpipe.nn.device import cores
from bwpipe.training.job import Task
from bwpipe.training.trainer import Trainer

T = TypeVar("T")

_LOOK = 0.2
"""Seconds between two looks at whether the run is to stop."""
_PATIENCE = 5.0
"""Seconds that processes have to stop by themselves."""
_CHATTY = ("lightning_fabric", "lightning.fabric", "torch.multiprocessing")
"""The loggers of what matters in whose messages we report ourselves."""


def train(task: Task, device: torch.device, run: RunContext) -> list[dict[str, float]]:
    """Do a training to its end.

    Args:
        task: The training; its dataset lies in a folder if there are several devices.
        device: The device, or the first one, of its kind.
        run: The execution that it is part of.

    Returns:
        The figures of all validations.

    Raises:
        RunStopped: The run is to stop.
        BwpipeError: The training can't go on.
        OSError: Its state can't be kept.
    """
    with _quiet_loggers():
        return _train(task, device, run)


def _train(task: Task, device: torch.device, run: RunContext) -> list[dict[str, float]]:
    count = task.options.devices
    if count == 1:
        own = [device.index or 0] if device.type == "cuda" else 1
        fabric = Fabric(accelerator=device.type, devices=own)
        with _threads(task.options.threads):
            return Trainer(task, fabric, say=run.note, warn=run.warn, tick=run.raise_if_stopped).run()
    spawning = multiprocessing.get_context("spawn")
    stop, errors = spawning.Event(), spawning.SimpleQueue()
    with _watched(run, stop, errors), _deaf():
        try:
            history = shared(partial(_work, task=task, folders=run.plugins, stop=stop, errors=errors), device.type, count)
        except (ProcessRaisedException, ProcessExitedException) as error:
            run.raise_if_stopped()
            if not errors.empty():
                raise errors.get() from error
            raise RunAborted("a process of the training was lost; start it again, it goes on") from error
        finally:
            errors.close()
    run.raise_if_stopped()
    assert history is not None  # only a training that was stopped gives none
    return history


def shared(work: Callable[[Fabric], T], kind: str, count: int) -> T:
    """Do some work in as many processes, one for each device of a kind.

    Args:
        work: Can be handed to another process; it is called in each with a Fabric that is launched.
        kind: Of the devices, such as "cuda"; any number of processes can share a "cpu".
        count: How many.

    Returns:
        What the work gave in the first process.

    Raises:
        ProcessRaisedException, ProcessExitedException: A process failed; the others were ended.
    """
    made: T = Fabric(accelerator=kind, devices=count, strategy="ddp_spawn").launch(partial(_tidily, work=work))
    return made


def _tidily(fabric: Fabric, work: Callable[[Fabric], T]) -> T:
    """Do the work, and leave the group of processes: one that just ends takes others down."""
    made = work(fabric)
    fabric.barrier()
    torch.distributed.destroy_process_group()
    return made


def _work(fabric: Fabric, *, task: Task, folders: tuple[Path, ...], stop: Event, errors: Any) -> list[dict[str, float]] | None:
    """What one of several processes does; None where it was to stop."""
    parent = multiprocessing.parent_process()

    def tick() -> None:
        if not (parent and parent.is_alive()):
            os._exit(1)  # another training may hold the folder by now
        if stop.is_set():
            raise RunStopped

    def say(text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)

    def note(text: str) -> None:
        if not task.quiet:
            say(text)

    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)  # this process is ours alone
    try:
        plugins.load(folders)
        tick()
        with _threads(max(1, (task.options.threads or cores()) // fabric.world_size)):
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
    """Within, the loggers of `_CHATTY` show errors only."""
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
def _threads(count: int | None) -> Iterator[None]:
    """Let torch compute with so many threads in this thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started within don't hear signals that a whole group gets: they stop when they are told to."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _watched(run: RunContext, stop: Event, errors: Any) -> Iterator[None]:
    """Tell the processes that are started within when the run is to stop, or one has failed; end those that do not listen."""
    over = Signal()
    others = multiprocessing.active_children()

    def look() -> None:
        told: float | None = None
        while not over.wait(_LOOK):
            if told is None and (_raises(run.raise_if_stopped) or not errors.empty()):
                told = monotonic()
                stop.set()
            if told is not None and monotonic() - told > _PATIENCE:
                for process in multiprocessing.active_children():
                    if process not in others:
                        process.kill()

    thread = Thread(target=look, name="watch")
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
