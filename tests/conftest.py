import os
from pathlib import Path

import pytest

from bwpipe.tools.samples import write_samples

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: the workers share the cores
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the graphs that tests make out of the user's cache folder; the processes that tests start inherit it."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the output of `bwpipe samples`: five pictures and a film. Tests must not change it."""
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder)
    return folder
