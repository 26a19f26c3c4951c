"""Discovery of stages and networks: built in, from a graph's folders, from installed packages; and the two examples."""

import subprocess
import sys
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest

from bwpipe.core import plugins
from bwpipe.core.extras import missing_library
from bwpipe.core.stage import stages
from bwpipe.errors import UsageError
from bwpipe.nn.network import networks

EXAMPLES = Path(__file__).parents[2] / "examples"

STAGE = """
from bwpipe import Frame, Map, stage

@stage({name!r})
class Identity(Map):
    def apply(self, frame: Frame) -> Frame:
        return frame
"""

LIBGL = str(missing_library(ImportError("libGL.so.1")))
CLASS = "from bwpipe import Map, stage\n@stage('plugins_x')\nclass X(Map):\n"


def plugin(folder: Path, file: str, source: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(source)
    return folder


def test_built_in_stages_and_networks_are_found() -> None:
    plugins.load()

    assert {"read", "colorize", "write", "fit"} <= set(stages)
    assert "autoencoder" in networks


def test_loading_twice_is_harmless(tmp_path: Path) -> None:
    folder = plugin(tmp_path, "one.py", STAGE.format(name="plugins_twice"))

    plugins.load([folder])
    first = stages["plugins_twice"]
    plugins.load([folder, tmp_path / ".." / tmp_path.name])

    assert stages["plugins_twice"] is first


def test_folders_and_files_with_equal_names_do_not_clash(tmp_path: Path) -> None:
    folders = [
        plugin(tmp_path / place / "mine", "same.py", STAGE.format(name=f"plugins_{place}")) for place in ("here", "there")
    ]

    plugins.load(folders)

    assert {"plugins_here", "plugins_there"} <= set(stages)


def test_plugins_of_a_folder_can_share_underscore_modules(tmp_path: Path) -> None:
    plugin(tmp_path, "_names.py", "NAME = 'plugins_shared'\nassert __name__ != '__main__'")
    plugin(tmp_path, "a stage.py", "from ._names import NAME\n" + STAGE.format(name="x").replace("'x'", "NAME"))

    plugins.load([tmp_path])

    assert "plugins_shared" in stages


def test_tests_in_a_folder_are_not_imported(tmp_path: Path) -> None:
    plugin(tmp_path, "one.py", STAGE.format(name="plugins_tested"))
    for file in ("test_one.py", "conftest.py"):
        plugin(tmp_path, file, "raise AssertionError")

    plugins.load([tmp_path])

    assert "plugins_tested" in stages


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def (", "SyntaxError: invalid syntax (broken.py, line 1)"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise OSError('one\\ntwo')", "OSError: one two"),
        (CLASS + "    ...", "TypeError: stage 'plugins_x' has no method 'apply'"),
        (
            CLASS + "    def apply(self, item): ...",
            "TypeError: X.apply needs type hints for what it takes and gives: they are the ports",
        ),
        ("raise ImportError('libGL.so.1: cannot open shared object file')",
         "ImportError: libGL.so.1: cannot open shared object file; " + LIBGL),
    ],
)  # fmt: skip
def test_a_plugin_that_cannot_be_imported_is_named(tmp_path: Path, source: str, reason: str) -> None:
    plugin(tmp_path, "broken.py", source)

    with pytest.raises(UsageError) as caught:
        plugins.load([tmp_path])

    assert str(caught.value) == f"plugin {tmp_path}/broken.py can't be imported: {reason}"
    assert "plugins_x" not in stages


def test_a_duplicate_stage_name_is_rejected(tmp_path: Path) -> None:
    plugin(tmp_path / "my stages", "reader.py", STAGE.format(name="read"))

    both = r"stage 'read' is in both bwpipe\.stages\.read and bwpipe_plugins_my_stages_\w+\.reader$"
    with pytest.raises(UsageError, match=rf"reader\.py can't be imported: ValueError: {both}"):
        plugins.load([tmp_path / "my stages"])


def test_a_missing_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^there is no plugin folder .*nowhere$"):
        plugins.load([tmp_path / "nowhere"])


def install(distribution: str, group: str, name: str, module: str, site: Path) -> None:
    """Write the metadata of an installed package: its name and its entry point."""
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")


def test_an_installed_network_is_found_and_a_broken_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    source = "from bwpipe.nn.network import Network, network\n@network('plugins_net')\nclass Net(Network): ..."
    plugin(tmp_path, "plugins_net_module.py", source)
    install("net-package", "bwpipe.models", "net", "plugins_net_module", tmp_path)

    plugins.load()

    assert "plugins_net" in networks
    install("bad-package", "bwpipe.stages", "bad", "plugins_no_module", tmp_path)
    with pytest.raises(
        UsageError, match=r"^plugin 'bad' of the package 'bad-package' can't be imported: ModuleNotFoundError: "
    ):
        plugins.load()


def bwpipe(*arguments: str | Path, path: Path | None = None) -> None:
    """Run the command line in a subprocess, with an additional package folder."""
    program = "import sys; sys.path[:0] = sys.argv.pop(1).split(); from bwpipe.cli.main import main; main()"
    command = [sys.executable, "-c", program, f"{path} {EXAMPLES / 'plugin_package'}" if path else "", *map(str, arguments)]
    subprocess.run(command, check=True, timeout=100)


def test_the_plugin_folder_of_the_examples_runs(tmp_path: Path) -> None:
    negative = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), negative)

    graph = EXAMPLES / "plugin_folder" / "pipeline.yaml"
    bwpipe("run", graph, "--set", f"read.path={tmp_path / 'in'}", "--set", f"write.path={tmp_path / 'out'}")

    output = cv2.imread(str(tmp_path / "out" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert output is not None
    assert np.abs(output.astype(int) - (255 - negative.astype(int)).reshape(20, 30, *[1] * (output.ndim - 2))).max() <= 1


def test_the_tests_of_the_plugin_folder_pass() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "plugin_folder")]
    subprocess.run(command, check=True, timeout=100, capture_output=True)


def test_the_plugin_package_of_the_examples_runs(tmp_path: Path) -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 2] = 200
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), red)
    project = tomllib.loads((EXAMPLES / "plugin_package" / "pyproject.toml").read_text())["project"]
    [(name, module)] = project["entry-points"]["bwpipe.stages"].items()
    install(project["name"], "bwpipe.stages", name, module, tmp_path / "site")

    paths = ["--set", f"read.path={tmp_path / 'in'}", "--set", f"write.path={tmp_path / 'out'}", "--set", "saturate.factor=0"]
    bwpipe("run", EXAMPLES / "plugin_package" / "pipeline.yaml", *paths, path=tmp_path / "site")

    output = cv2.imread(str(tmp_path / "out" / "a.png"))
    assert output is not None
    assert np.ptp(output.astype(int), axis=2).max() <= 2  # grey: the red has been removed
