"""Runs a training here, or in one process for each of several devices."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Event as Signal
from threading import Thread
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from bwpipe import plugins
from bwpipe.channel import ChannelAborted
from bwpipe.device import cores
from bwpipe.errors import BwpipeError, RunAborted
from bwpipe.execution import Run
from bwpipe.report import printable
from bwpipe.training.trainer import Task, Trainer

T = TypeVar("T")

_LOOK = 0.2
"""Seconds between two looks at whether the run is to stop."""


def train(task: Task, device: torch.device, run: Run) -> list[dict[str, float]]:
    """Do a training to its end.

    Args:
        task: The training; its dataset lies in a folder if there are several devices.
        device: The device, or the first one, of its kind.
        run: The execution that it is part of.

    Returns:
        The figures of all validations.

    Raises:
        ChannelAborted: The run is to stop.
        BwpipeError: The training can't go on.
        OSError: Its state can't be kept.
    """
    count = task.options.devices
    if count == 1:
        own = [device.index or 0] if device.type == "cuda" else 1
        fabric = Fabric(accelerator=device.type, devices=own)
        with _threads(task.options.threads):
            return Trainer(task, fabric, say=run.note, warn=run.warn, tick=run.raise_if_stopped).run()
    spawning = multiprocessing.get_context("spawn")
    stop, errors = spawning.Event(), spawning.SimpleQueue()
    with _passing_on(run, stop):
        try:
            history = shared(partial(_work, task=task, folders=run.plugins, stop=stop, errors=errors), device.type, count)
        except (ProcessRaisedException, ProcessExitedException) as error:
            run.raise_if_stopped()
            if not errors.empty():
                raise errors.get() from None
            raise RunAborted(f"a process of the training was lost; start it again, it goes on: {error}") from error
        finally:
            errors.close()
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


def _work(fabric: Fabric, *, task: Task, folders: tuple[Path, ...], stop: Event, errors: Any) -> list[dict[str, float]]:
    """What one of several processes does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one hears it too, and says when to stop
    parent = multiprocessing.parent_process()

    def tick() -> None:
        if stop.is_set() or not (parent and parent.is_alive()):
            raise ChannelAborted

    def say(text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)

    try:
        plugins.load(folders)
        with _threads(max(1, (task.options.threads or cores()) // fabric.world_size)):
            return Trainer(task, fabric, say=say, warn=lambda text: say(f"warning: {text}"), tick=tick).run()
    except (BwpipeError, OSError) as error:
        errors.put(error)
        raise


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
def _passing_on(run: Run, stop: Event) -> Iterator[None]:
    """Tell other processes when the run is to stop."""
    over = Signal()

    def look() -> None:
        while not over.wait(_LOOK):
            if _raises(run.raise_if_stopped):
                stop.set()
                return

    thread = Thread(target=look, name="stop")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _raises(call: Callable[[], None]) -> bool:
    try:
        call()
    except ChannelAborted:
        return True
    return False
