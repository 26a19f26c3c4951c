"""The way to Ray, with a package in Ray's place that starts nothing: what is said where it fails, and what is left of it."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bwpipe.cluster import ray_connection
from bwpipe.cluster.ray_connection import RayConnection, what_is_wrong
from bwpipe.errors import UsageError

SLOW = Exception("The current node timed out during startup.")


class Node:
    """Ray's processes on a machine, which end with it or when they are killed."""

    def __init__(self, error: BaseException | None, killed: list["Node"]) -> None:
        self._killed = killed
        if error:
            raise error

    def kill_all_processes(self, **options: Any) -> None:
        self._killed.append(self)


class Ray:
    """Of Ray, what a connection calls: its first calls of `init` raise the errors that are given."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)
        self.inits: list[dict[str, Any]] = []
        self.killed: list[Node] = []
        self.shutdowns = 0

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: Any) -> None:
        folder = Path(options.get("_temp_dir", "/nowhere"))
        self.inits.append({**options, "tidy": folder.is_dir(), "loopback": os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")})
        Node(self._errors.pop(0) if self._errors else None, self.killed)

    def shutdown(self) -> None:
        self.shutdowns += 1

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(gcs_address="192.0.2.10:6379")


@pytest.fixture(autouse=True)
def _private_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules in the place of Ray's own."""
    private = {name: ModuleType(f"ray._private.{name}") for name in ("node", "ray_constants", "worker")}
    vars(private["node"])["Node"] = Node
    for module in (ModuleType("ray"), parent := ModuleType("ray._private"), *private.values()):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    vars(parent).update(private)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = _settings()
    yield
    assert _settings() == before


def _settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_")}


def served(answer: bytes) -> tuple[str, Thread]:
    """An address at which one client gets an answer."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(ConnectionError), server, server.accept()[0] as client:
            client.recv(100)
            client.sendall(answer)
            client.recv(100)

    thread = Thread(target=serve)
    thread.start()
    return f"127.0.0.1:{server.getsockname()[1]}", thread


@contextmanager
def address_without_answer() -> Iterator[str]:
    """An address at which nothing listens, nor can as long as this lasts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("address", ["somewhere", "ray://192.0.2.10:10001", "192.0.2.10:", ":6379", "192.0.2.10:70000", "h:x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    assert what_is_wrong(address) == "an address is HOST:PORT, as `ray start --head` shows it, such as 192.0.2.10:6379"


def test_an_address_where_nothing_answers_is_refused_at_once() -> None:
    with address_without_answer() as address:
        found = what_is_wrong(address)

    assert found is not None
    assert found.startswith(f"no Ray cluster answers at {address} (")


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [(b"HTTP/1.0 400 Bad request\r\n\r\n", True), (b"", True), (bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)), False)],
)
def test_what_does_not_speak_as_ray_is_refused(answer: bytes, wrong: bool) -> None:
    if not answer:
        with closing(socket.create_server(("127.0.0.1", 0))) as silent, pytest.MonkeyPatch.context() as patch:
            patch.setattr(ray_connection, "_ANSWER", 0.1)
            assert "within" in str(what_is_wrong(f"127.0.0.1:{silent.getsockname()[1]}"))
        return
    address, thread = served(answer)
    found = what_is_wrong(address)
    thread.join()

    assert (found is not None) == wrong
    assert (
        not wrong or found == f"what answers at {address} is not a Ray cluster; compare with what `ray start --head` has shown"
    )


def test_a_start_that_was_too_slow_is_made_again_and_nothing_is_left_of_it() -> None:
    ray, said = Ray(SLOW), list[str]()
    connection = RayConnection(ray, "auto")

    assert connection.open(2, said.append) == "Ray on this machine"
    assert said == ["Ray has not started in time, as happens on a busy machine; it is started again"]
    assert len(ray.killed) == 1
    assert [each["num_cpus"] for each in ray.inits] == [2, 2]
    assert all(each["tidy"] and each["loopback"] == "0" and each["include_dashboard"] is False for each in ray.inits)
    connection.close()
    assert ray.shutdowns == 1
    assert not Path(ray.inits[1]["_temp_dir"]).exists()


def test_starts_that_all_fail_are_one_sentence() -> None:
    ray = Ray(SLOW, SLOW, SLOW)
    connection = RayConnection(ray, "auto")

    with pytest.raises(UsageError, match=r"Ray does not start on this machine \(The current node .*\); if it is busy, try"):
        connection.open(1, lambda text: None)
    connection.close()
    assert len(ray.killed) == 3
    assert ray.shutdowns == 0


def within_compiled_code(error: BaseException) -> SystemError:
    found = SystemError("<cyfunction CoreWorker.wait> returned a result with an exception set")
    found.__cause__ = error
    return found


@pytest.mark.parametrize("error", [KeyboardInterrupt(), within_compiled_code(KeyboardInterrupt())])
def test_an_interrupted_start_is_not_made_again(error: BaseException) -> None:
    ray = Ray(error)
    connection = RayConnection(ray, "auto")

    with pytest.raises(KeyboardInterrupt):
        connection.open(1, lambda text: None)
    connection.close()
    assert (len(ray.inits), len(ray.killed)) == (1, 1)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            RuntimeError("Version mismatch: The cluster was started with: ..."),
            "its machines have another version of Ray or Python",
        ),
        (RuntimeError("InvalidAuthToken: Authentication token is missing"), "the cluster asks for a token; set RAY_AUTH_MODE"),
        (
            ConnectionError("Failed to connect"),
            "this machine does not belong to the Ray cluster at HERE, or that does not answer",
        ),
    ],
)
def test_why_a_cluster_that_answers_can_not_be_used_is_one_sentence(error: Exception, text: str) -> None:
    address, thread = served(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))

    with pytest.raises(UsageError, match=f"--ray {address}: {text.replace('HERE', address)}"):
        RayConnection(Ray(error), address).open(1, lambda text: None)
    thread.join()


def test_auto_is_the_cluster_of_the_environment_and_its_address_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    address, thread = served(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
    with monkeypatch.context() as patch:
        patch.setenv("RAY_ADDRESS", address)
        connection = RayConnection(ray := Ray(), "auto")
        assert connection.open(1, lambda text: None) == "the Ray cluster at 192.0.2.10:6379"
        connection.close()
        thread.join()
        with address_without_answer() as silent:
            patch.setenv("RAY_ADDRESS", silent)
            with pytest.raises(UsageError, match=r"--ray auto: no Ray cluster answers at"):
                RayConnection(Ray(), "auto").open(1, lambda text: None)
    assert ray.inits[0]["address"] == address
    assert ray.shutdowns == 1
