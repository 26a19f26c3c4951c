"""Starts functions in processes of their own, which can be killed.

They are forked from one that has imported torch and Lightning, and has no threads: importing these in each takes seconds.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from bwpipe import run


def start_apart(work: Callable[..., object], *arguments: Any) -> BaseProcess:
    """Start a function that can be imported, with arguments that can be pickled."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bwpipe.training.launcher", "tests.support.apart"])
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


def run_apart(graph: dict[str, Any]) -> int | None:
    """Run a graph; returns the exit code of the process, or the signal that ended it as a negative number."""
    process = start_apart(_run, graph)
    try:
        process.join()
    finally:
        process.kill()
    return process.exitcode


def _run(graph: dict[str, Any]) -> None:
    raise SystemExit(run(graph, quiet=True).exit_code)
