"""Runs on Ray's workers, on this machine. Ray takes long to start, so they are slow; without Ray they are skipped."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

import pytest

from bwpipe import run
from tests.support.tripping import contents, tripping_graph

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.skipif(not find_spec("ray"), reason="needs bwpipe[ray]")]


def start(folder: Path, out: Path, address: str = "auto") -> "subprocess.Popen[str]":
    """`bwpipe run --ray` with two workers of one processor."""
    file = out.with_suffix(".json")
    file.write_text(json.dumps({**tripping_graph(folder, out), "cluster": {"cpus": 1}}))
    line = [sys.executable, "-m", "bwpipe", "run", str(file), "--ray", address, "--ray-workers", "2"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def workers() -> list[int]:
    """The processes of workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::RayWorker" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_run_on_ray_writes_the_bytes_of_one_process(folder: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    process = start(folder, tmp_path / "out")
    text, errors = process.communicate()

    assert process.returncode == 0, errors
    assert contents(tmp_path / "out") == whole
    assert "worker" in text
    assert not list((tmp_path / "out" / ".bwpipe").glob("*.part*"))


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_a_killed_worker_is_replaced(folder: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    process = start(folder, tmp_path / "out")
    end = monotonic() + 600
    while not (tmp_path / "out" / ".bwpipe" / "ledger.sqlite").exists() and monotonic() < end and process.poll() is None:
        sleep(0.2)
    for each in workers()[:1]:
        os.kill(each, signal.SIGKILL)
    _, errors = process.communicate()

    assert process.returncode == 0, errors
    assert contents(tmp_path / "out") == whole


def test_a_run_that_is_interrupted_ends_its_workers_and_goes_on_in_one_process(
    folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    process = start(folder, tmp_path / "out")
    end = monotonic() + 600
    while not (tmp_path / "out" / ".bwpipe" / "ledger.sqlite").exists() and monotonic() < end and process.poll() is None:
        sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()

    assert process.returncode == 130, errors
    assert "interrupted by SIGINT" in errors
    assert run(tripping_graph(folder, tmp_path / "out")).exit_code == 0
    assert contents(tmp_path / "out") == whole


def test_a_machine_that_goes_in_the_middle_of_a_film_is_replaced(folder: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(**node) for _ in range(2)]
        process = start(folder, tmp_path / "out", address=cluster.address)
        end = monotonic() + 600
        while not (tmp_path / "out" / ".bwpipe" / "ledger.sqlite").exists() and monotonic() < end and process.poll() is None:
            sleep(0.2)
        cluster.remove_node(nodes[0], allow_graceful=False)
        _, errors = process.communicate()
    finally:
        cluster.shutdown()

    assert process.returncode == 0, errors
    assert contents(tmp_path / "out") == whole
