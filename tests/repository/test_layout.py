"""The layout of the repository: imports, module lengths, packaged files, the README."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bwpipe.graph.templates import ADAPT, FINE_TUNE, NAMES
from bwpipe.version import __version__

ROOT = Path(__file__).parents[2]
MODULES = [path for folder in ("bwpipe", "stages", "models") for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_module_imports_a_stage_or_a_network(path: Path) -> None:
    assert [name for name in imported(path) if re.match(r"(bwpipe\.)?(stages|models)(\.|$)", name)] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_module_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_importing_the_engine_imports_no_stage_and_no_torch() -> None:
    wanted = "[name for name in sys.modules if name.startswith(('torch', 'bwpipe.stages', 'bwpipe.models'))]"
    program = f"import sys, bwpipe, bwpipe.cli.main; print({wanted})"

    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)

    assert printed.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [*NAMES, FINE_TUNE, ADAPT])
def test_the_shipped_graph_files_equal_those_at_the_top(name: str) -> None:
    assert (ROOT / "bwpipe" / "graph" / "templates" / name).read_bytes() == (ROOT / name).read_bytes()


def test_a_wheel_holds_stages_networks_weights_and_graph_files(tmp_path: Path) -> None:
    tree = tmp_path / "tree"  # a copy: setuptools leaves a build folder behind whose contents would be packaged the next time
    for name in ("bwpipe", "stages", "models", "recipes"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "packaging").mkdir()
    for name in ("pyproject.toml", "packaging/description.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    program = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"  # as pip does it
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=tree, check=True, capture_output=True, timeout=100)

    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(next(name for name in names if name.endswith("/METADATA"))).decode()

    for folder, inside in (("bwpipe", "bwpipe"), ("stages", "bwpipe/stages"), ("models", "bwpipe/models")):
        assert {f"{inside}/{path.relative_to(ROOT / folder)}" for path in (ROOT / folder).rglob("*.py")} <= names
    weights = {f"bwpipe/models/weights/{path.name}" for path in (ROOT / "models" / "weights").iterdir()}
    assert any(name.endswith(".safetensors") for name in weights)
    graphs = {f"bwpipe/models/graphs/{path.name}" for path in (ROOT / "models" / "graphs").iterdir()}
    assert graphs
    recipes = {f"bwpipe/recipes/{path.name}" for path in (ROOT / "recipes").iterdir() if path.is_file()}
    templates = {f"bwpipe/graph/templates/{name}" for name in (*NAMES, FINE_TUNE, ADAPT)}
    assert weights | graphs | recipes | templates | {"bwpipe/py.typed"} <= names
    assert f"\nVersion: {__version__}\n" in metadata
    assert metadata.endswith((ROOT / "packaging" / "description.md").read_text(encoding="utf-8"))
    pages = {
        f"bwpipe/review/{path.name}"
        for path in (ROOT / "bwpipe" / "review").iterdir()
        if path.suffix in {".html", ".css", ".js"}
    }
    assert len(pages) == 5
    assert pages <= names
    assert {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")} == {"bwpipe"}


def test_the_version_is_the_latest_of_the_changelog() -> None:
    latest = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert latest
    assert latest[1] == __version__


def test_the_description_of_the_package_needs_no_checkout() -> None:
    text = (ROOT / "packaging" / "description.md").read_text(encoding="utf-8")

    assert re.findall(r"\]\((?!https?:)|<img", text) == [], "an index of packages has no files to link to"


def test_the_pictures_are_small_and_each_is_credited() -> None:
    images = sorted((ROOT / "docs" / "images").iterdir())
    gallery = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")

    assert sum(path.stat().st_size for path in images) <= 1_000_000
    assert [path.name for path in images if path.suffix == ".jpg" and path.stat().st_size > 60_000] == []
    review = (ROOT / "docs" / "how-to" / "review.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\]\((?:docs/|\.\./)?images/([\w.-]+)\)", gallery + readme() + review))
    assert shown == {path.name for path in images}
    for author in ("NASA", "Stefan van der Walt", "Rachel Michetti", "SpaceX"):
        assert author in gallery
        assert author in readme()


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_shows_the_graph_file_as_it_is() -> None:
    assert f"```yaml\n{(ROOT / 'pipeline.yaml').read_text(encoding='utf-8')}```" in readme()


def test_the_readme_names_every_command() -> None:
    from bwpipe.cli.main import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    table = {word for row in re.findall(r"^\| (`.*?) \|", readme(), re.MULTILINE) for word in re.findall(r"`(\w+)", row)}

    assert known <= table


def test_the_readmes_plain_commands_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(BIN)", ".venv/bin").replace("$(VENV)", ".venv")
    makefile = makefile.replace("$(PYTHON)", "python3").replace(" --quiet", "")
    block = re.search(r"```sh\n# make run\n(.*?)```", readme(), re.DOTALL)

    assert block
    for line in block[1].splitlines():
        if line and not line.startswith("#"):
            assert f"\t{line}\n" in makefile, line


def test_every_link_in_the_docs_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"
