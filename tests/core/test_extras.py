"""What is missing is named with a command that installs it, from a checkout and from a wheel alike."""

import builtins
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bwpipe.core.extras import install_command, missing_library, packages_of
from bwpipe.errors import UsageError
from bwpipe.tools.samples import photographs

ROOT = Path(__file__).parents[2]


def test_the_command_names_the_packages_of_the_extra_and_this_python() -> None:
    words = shlex.split(install_command("samples"))

    assert words == [sys.executable, "-m", "pip", "install", "scikit-image"]
    assert "torchmetrics" in packages_of("train")
    assert packages_of("unknown") == []


def test_a_missing_package_is_named_with_that_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("skimage"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(UsageError, match=r"scikit-image's photographs; run: \S+ -m pip install scikit-image$"):
        next(photographs())


def test_no_message_asks_for_an_extra_that_pip_would_look_for_in_an_index() -> None:
    for folder in ("bwpipe", "stages", "models"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "pip install 'bwpipe" not in path.read_text(encoding="utf-8"), path


def test_other_import_errors_are_left_alone() -> None:
    assert missing_library(ImportError("No module named 'torch'")) is None
    assert "libgl1" in str(missing_library(ImportError("libGL.so.1: cannot open shared object file")))


WITHOUT_LIBGL = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

sys.meta_path.insert(0, Missing())
from bwpipe.cli.main import main
main()
"""


@pytest.mark.parametrize("command", ["run graph.yaml", "verify in out", "samples new"])
def test_where_libgl_is_missing_every_command_says_what_to_install(tmp_path: Path, command: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    (tmp_path / "graph.yaml").write_text("stages:\n- use: read\n  path: in\n- use: write\n  path: out\n")

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LIBGL, *command.split()],
        cwd=tmp_path, check=False, capture_output=True, text=True, timeout=100,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (2, "")
    assert "`apt-get install libgl1`" in done.stderr
    assert "opencv-python-headless" in done.stderr
    assert "bug" not in done.stderr
