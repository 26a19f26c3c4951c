"""On systems without POSIX, which `install` makes of this one: nothing of bwpipe needs what only POSIX has."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import builtins, importlib, os, pathlib, signal, sys
from unittest.mock import MagicMock

POSIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}
POSIX_NAMES = {os: ["killpg", "posix_fadvise", "sched_getaffinity", "statvfs",
                    "O_DIRECTORY", "O_NOFOLLOW", "register_at_fork"],
               signal: ["SIGKILL", "SIGHUP", "SIGUSR1", "pthread_sigmask", "setitimer", "alarm"]}
real_import, real_read = builtins.__import__, pathlib.Path.read_text


def without_posix(name, globals=None, *rest):
    if name in POSIX_MODULES and (globals or {}).get("__name__", "").startswith("bwpipe"):
        raise ImportError(name)
    return real_import(name, globals, *rest)


def without_proc(path, *arguments, **options):
    if str(path).startswith(("/proc", "/sys")):
        raise FileNotFoundError(path)
    return real_read(path, *arguments, **options)


for module in sys.argv[4].split():  # of others, which look for these by themselves
    importlib.import_module(module)
sys.modules["lightning_fabric"] = MagicMock()  # which would import a compiler, for seconds
builtins.__import__, pathlib.Path.read_text = without_posix, without_proc
for module, names in POSIX_NAMES.items():
    for name in names:
        delattr(module, name)
os.supports_dir_fd = set()
import bwpipe
for module in sys.argv[3].split():
    importlib.import_module(module)
from bwpipe.core import atomic_file, memory
from bwpipe.image import open as image_open
assert (atomic_file._HANDLES, memory.peak(), memory.address_space()) == (False, None, float("inf"))
image_open._ALWAYS = 0  # look at the memory for this picture, too
result = bwpipe.run({"stages": [{"use": "read", "path": sys.argv[1]}, {"use": "write", "path": sys.argv[2]}]})
assert result.exit_code == 0, str(result)
"""
OTHERS = "av cv2 filelock multiprocessing.util numpy PIL.Image pydantic subprocess tempfile tifffile torch tqdm typer yaml"


@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform == "win32", reason="it is such a system")
def test_every_module_is_imported_and_a_picture_written_without_posix(samples: Path, tmp_path: Path) -> None:
    files = [path.relative_to(ROOT) for path in sorted((ROOT / "bwpipe").rglob("*.py")) if path.name != "__main__.py"]
    modules = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]
    command = [sys.executable, "-c", PROGRAM, str(samples / "astronaut.jpg"), str(tmp_path / "out"), " ".join(modules), OTHERS]

    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)

    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "astronaut.jpg").exists()
