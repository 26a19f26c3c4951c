"""Signal handling: the first signal stops a run cleanly, the second one immediately."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from types import FrameType

GRACE_PERIOD = 8.0
"""Seconds from the first signal until the process is ended, whatever a stage is doing."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


_sending: list[int] = []
"""What `signal.set_wakeup_fd` was before; empty if signals are not sent to a thread."""


def _forget_in_child() -> None:
    if _sending:
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


class InterruptedRun(BaseException):
    """A signal interrupted the run.

    Attributes:
        exit_code: 128 plus the signal's number, the shells' convention.
    """

    def __init__(self, number: int, effect_of_rerun: str) -> None:
        """`effect_of_rerun` says what running the same command again does."""
        super().__init__(f"interrupted by {signal.Signals(number).name}; the same command {effect_of_rerun}")
        self.exit_code = 128 + number


@contextmanager
def interruptible(effect_of_rerun: str = "resumes from here") -> Iterator[None]:
    """Raise InterruptedRun in the main thread on SIGINT or SIGTERM; its message includes `effect_of_rerun`.

    A second signal, or `GRACE_PERIOD` seconds after the first, ends the process immediately; the next run removes unfinished
    files. A thread of its own sees to that: Python runs signal handlers in the main thread only, and not before that returns
    from a call into C, such as a decoder's that opens a damaged file.
    """
    raised = False

    def first(number: int, _: FrameType | None) -> None:
        nonlocal raised
        if not raised:
            raised = True
            raise InterruptedRun(number, effect_of_rerun)

    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    watcher = Thread(target=_end_if_late, args=(receiver, effect_of_rerun), name="signals", daemon=True)
    with receiver:
        watcher.start()
        previous = {each: signal.signal(each, first) for each in _SIGNALS}
        try:
            with _told_to(sender):
                yield
        finally:
            for each, handler in previous.items():
                signal.signal(each, handler)
            watcher.join()


@contextmanager
def _told_to(sender: socket.socket) -> Iterator[None]:
    """Have the number of each signal sent as a byte, as soon as it arrives; not in processes forked from this one."""
    _sending.append(signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False))
    try:
        yield
    finally:
        signal.set_wakeup_fd(_sending.pop())
        sender.close()


def _end_if_late(receiver: socket.socket, effect_of_rerun: str) -> None:
    """End the process at the second signal, or some time after the first; return once the sender is closed."""
    number = 0
    while True:
        try:
            received = receiver.recv(1)
        except TimeoutError:
            with suppress(OSError):
                os.write(2, f"{InterruptedRun(number, effect_of_rerun)}\n".encode())
            os._exit(128 + number)
        if not received:
            return
        if received[0] in _SIGNALS:
            if number:
                os._exit(128 + received[0])
            number = received[0]
            receiver.settimeout(GRACE_PERIOD)
