"""The way to a Ray cluster: one that is there, or one that is started here, for this run and reachable from nowhere else."""

import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from types import TracebackType
from typing import Any

from bwpipe.core.extras import install_command
from bwpipe.errors import UsageError

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default, without its warning
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run`, Ray would send the current folder to the workers
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # each try to reach a cluster takes 40 s, and by default there are 20
    "RAY_agent_register_timeout_ms": "300000",  # a busy machine takes longer to start than Ray waits by default
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_gcs_server_port_wait_time_s": "120",
}
"""Of Ray, unless the user has set them."""
_STORE = 256 << 20
"""Bytes of memory for the indexes of films, where Ray is started here."""
_STARTS = 3
"""How many times Ray is started here: one of its processes has 15 s to start, which no setting changes, and a busy machine
takes longer for the first time than for the second."""
_ANSWER = 5.0
"""Seconds until a cluster has to answer."""
_TEMP_LENGTH = 19
"""Longest name of a folder for temporary files in which the names of Ray's sockets are short enough."""
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a client of gRPC begins (RFC 9113, 3.4): a preface, and an empty frame of settings; the server answers with its own."""
_SETTINGS_FRAME = 4


def import_ray() -> Any:
    """The package Ray. Raises UsageError."""
    for name, value in _SETTINGS.items():  # some are read when it is imported
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        command = install_command("ray")
        raise UsageError(f"Ray is not installed; install it on each machine ({command}), or run without --ray") from error
    return ray


class RayConnection:
    """A connection to a Ray cluster."""

    def __init__(self, ray: Any, address: str) -> None:
        """Nothing is connected to yet.

        Args:
            ray: The package.
            address: "auto" for the cluster that this machine belongs to, or, if there is none, for one that is started here;
                or a cluster's address, `HOST:PORT`.
        """
        self._ray, self._address = ray, address
        self._stack = ExitStack()

    def open(self, cpus: int, say: Callable[[str], None]) -> str:
        """Connect, or start Ray here, and give in a few words what to.

        Args:
            cpus: Processors that workers take, where Ray is started here.
            say: Shows a line, on why it takes long.

        Raises:
            UsageError: There is no connection.
        """
        if self._ray.is_initialized():
            raise UsageError("Ray is in use in this process already; end that first, or run bwpipe in a process of its own")
        address = _running() if self._address == "auto" else self._address
        with _own_signals(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if address is None:
                self._start(cpus, say)
                return "Ray on this machine"
            self._connect(address)
        return f"the Ray cluster at {self._ray.get_runtime_context().gcs_address}"

    def _connect(self, address: str) -> None:
        """Connect to a cluster. Raises UsageError."""
        if problem := what_is_wrong(address):
            raise UsageError(f"--ray {self._address}: {problem}")
        try:
            with interrupts_kept():
                self._init(address=address)
        except (Exception, SystemExit) as error:
            raise UsageError(f"--ray {self._address}: {_why_not(address, error)}") from error

    def _start(self, cpus: int, say: Callable[[str], None]) -> None:
        """Start Ray on this machine. Raises UsageError."""
        self._stack.enter_context(_of_this_machine())
        folder = tempfile.mkdtemp(prefix="bwpipe-ray-", dir=None if len(tempfile.gettempdir()) <= _TEMP_LENGTH else "/tmp")
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for left in reversed(range(_STARTS)):
            try:
                self._init(
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=False,
                    object_store_memory=_STORE,
                    _temp_dir=folder,
                )
            except BaseException as error:
                _end_what_started(error.__traceback__)
                if interrupt := _interrupt(error):
                    raise interrupt from None
                if not isinstance(error, Exception | SystemExit):
                    raise
                if not left:
                    text = " ".join(str(error).split())[:200]
                    raise UsageError(
                        f"--ray auto: Ray does not start on this machine ({text}); "
                        "if it is busy, try again later, or run without --ray"
                    ) from error
                say("Ray has not started in time, as happens on a busy machine; it is started again")
            else:
                return

    def _init(self, **options: Any) -> None:
        self._stack.enter_context(_in_silence())
        self._ray.init(log_to_driver=False, logging_level="error", namespace="bwpipe", **options)
        self._stack.callback(self._ray.shutdown)

    def close(self) -> None:
        """Disconnect; what was started here is ended."""
        with _own_signals():
            self._stack.close()


def _running() -> str | None:
    """The address of the cluster that this machine belongs to; None if there is none."""
    if given := os.environ.get("RAY_ADDRESS"):
        return None if given == "local" else given
    with suppress(ImportError, AttributeError, TypeError, OSError):  # it is not documented
        from ray._private.services import find_bootstrap_address

        found: str | None = find_bootstrap_address(None)  # of `ray start`, which leaves it behind when it is killed
        if found and not what_is_wrong(found):
            return found
    return None


def what_is_wrong(address: str) -> str | None:
    """Why no cluster can be at an address, in a sentence; None if something answers there that may be one.

    Ray itself would try for minutes.
    """
    host, colon, port = address.rpartition(":")
    if "//" in address or not (colon and host and port.isdecimal() and 0 < int(port) < 1 << 16):
        return "an address is HOST:PORT, as `ray start --head` shows it, such as 192.0.2.10:6379"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWER) as connection:
            connection.sendall(_HTTP2)
            answer = connection.recv(4)
    except TimeoutError:
        return f"no Ray cluster answers at {address} within {_ANSWER:.0f} s; compare with what `ray start --head` has shown"
    except OSError as error:
        text = error.strerror or error
        return f"no Ray cluster answers at {address} ({text}); compare with what `ray start --head` has shown"
    if len(answer) < 4 or answer[3] != _SETTINGS_FRAME:
        return f"what answers at {address} is not a Ray cluster; compare with what `ray start --head` has shown"
    return None


def _why_not(address: str, error: BaseException) -> str:
    """Why there is no connection to something that answers."""
    text = " ".join(str(error).split())
    if "ersion mismatch" in text:
        return "its machines have another version of Ray or Python than this one; install the same on all"
    if "uthentication" in text or "nauthenticated" in text:
        return "the cluster asks for a token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to that of its machines"
    return (
        f"this machine does not belong to the Ray cluster at {address}, or that does not answer ({text[:200]}); "
        f"run `ray start --address={address}` here first, and see `ray status`"
    )


@contextmanager
def _of_this_machine() -> Iterator[None]:
    """Have what Ray starts listen on the loopback address only, and ask for a token that only its processes have."""
    from ray._private import ray_constants

    wanted = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # which is what makes it use the loopback address, on any system
    given = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if _read_token_settings() and not given:
        wanted |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in wanted}
    clusters = getattr(ray_constants, "ENABLE_RAY_CLUSTER", None)
    os.environ.update(wanted)
    ray_constants.ENABLE_RAY_CLUSTER = False
    _read_token_settings()
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _read_token_settings()


def _read_token_settings() -> bool:
    """Have Ray read again what it keeps of the variables about tokens, and say whether it knows them, as older ones don't."""
    try:
        raylet = import_module("ray._raylet")
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()
    except (ImportError, AttributeError):
        return False
    return True


@contextmanager
def _in_silence() -> Iterator[None]:
    """Keep Ray from printing to standard output, in paragraphs, which workers it has lost: a run says so itself."""
    from ray._private import worker

    printing = getattr(worker, "print_to_stdstream", None)
    worker.print_to_stdstream = lambda *arguments, **options: None
    try:
        yield
    finally:
        worker.print_to_stdstream = printing


def _end_what_started(trace: TracebackType | None) -> None:
    """End the processes of a start of Ray that has failed, which Ray leaves until this process ends."""
    from ray._private.node import Node

    while trace:
        node = trace.tb_frame.f_locals.get("self")
        if isinstance(node, Node):
            with suppress(Exception):  # they may be gone, or half of it may not be set up
                node.kill_all_processes(check_alive=False, allow_graceful=False)
            return
        trace = trace.tb_next


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers of signals, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Raise what a signal's handler has raised within a call of Ray, whose compiled functions turn it into a SystemError."""
    try:
        yield
    except SystemError as error:
        if interrupt := _interrupt(error):
            raise interrupt from None
        raise


def _interrupt(error: BaseException) -> BaseException | None:
    """What a signal's handler has raised, if an error comes of that."""
    cause = error.__cause__ if isinstance(error, SystemError) else None
    return None if isinstance(cause, Exception) else cause
