import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from bwpipe.core.parallel import cores, scheduling_kept
from bwpipe.tools.samples import write_samples
from tests.support.compiled_networks import share_compiled_networks

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: the workers share the cores
    os.environ["OMP_NUM_THREADS"] = "1"
if sys.dont_write_bytecode:  # as images of containers have it: each process that tests start would compile all modules
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 << 30:
    # for pytest's temporary folders: each output, and each change of a ledger, waits until it is on the disk
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
gc.set_threshold(20_000)  # as a command of bwpipe has it: imports and the collection of tests make a million objects
settings.register_profile("untimed", deadline=None)  # by default a case fails that takes 0.2 s, as on a busy machine
settings.load_profile("untimed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: tests also wait, for other processes and for the disk."""
    return cores() + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take long, by their own `timeout`: one that comes last leaves the other cores idle."""
    long = {item.path for item in items if item.get_closest_marker("timeout")}
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Let Python's garbage collector pass over what has been imported and collected by now.

    Each run ends with a full collection, which would look at a million objects of torch and pytest each time: half a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _pass_over_modules() -> Iterator[None]:
    """The same for what the tests of a file have imported and made."""
    yield
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Films made for tests in AV1, too, leave the worker as it was scheduled."""
    with scheduling_kept():
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the graphs that tests make out of the user's cache folder; the processes that tests start inherit it."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _compiled_networks() -> Iterator[None]:
    """Compile each network once."""
    with pytest.MonkeyPatch.context() as patch:
        share_compiled_networks(patch)
        yield


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the output of `bwpipe samples`: five pictures and a film, one second of it. Tests must not change it."""
    folder = tmp_path_factory.mktemp("samples")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bwpipe.tools.samples.SECONDS", 1)
        write_samples(folder)
    return folder
