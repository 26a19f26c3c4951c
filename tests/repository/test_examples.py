"""The notebook and the page for the browser work."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_runs_from_the_first_cell_to_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells are executed in one namespace, as a kernel does; the value of the last line of each has to be shown somehow."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in cells("code"):
        *lines, last = ast_parts("".join(cell["source"]))
        for line in lines:
            exec(compile(line, "notebook", "exec"), names)
        value = eval(compile(last, "notebook", "eval"), names) if last else None
        names["_"] = value

    assert {path.name for path in Path("coloured").glob("*.*")} == {"coffee.tif", "rocket.jpg", ".bwpipe"}
    assert "data:image/jpeg" in names["result"]._repr_html_()


def ast_parts(text: str) -> list[Any]:
    """The statements of a cell, and its last one as an expression, whose value a notebook shows; None if it is none."""
    import ast

    tree = ast.parse(text)
    last = tree.body[-1]
    if not isinstance(last, ast.Expr):
        return [tree, None]
    return [ast.Module(tree.body[:-1], []), ast.Expression(last.value)]


def cells(kind: str) -> list[dict[str, Any]]:
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_the_notebook_is_kept_without_outputs() -> None:
    assert [cell["source"] for cell in cells("code") if cell["outputs"] or cell["execution_count"]] == []


@pytest.fixture
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", EXAMPLES / "demo.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_for_the_browser_colours_what_it_is_given(demo: ModuleType) -> None:
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64), np.uint8))

    coloured = demo.colour(grey, 0.5, 1.0, "fast")

    assert (coloured.mode, coloured.size) == ("RGB", (64, 48))
    assert demo.colour(None, 0.5, 1.0, "fast") is None
    assert "gradio" not in sys.modules


_SHOWS_THE_PAGE = """
import sys
import numpy, PIL.Image
sys.path.insert(0, sys.argv[1])
import demo
page = demo.page()
print(*[type(each).__name__ for each in page.input_components])
print(page.fn(PIL.Image.fromarray(numpy.full((48, 64), 99, numpy.uint8)), 0.5, 1.0, "fast").mode)
"""


@pytest.mark.slow  # importing gradio takes seconds
@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="the page needs gradio, which is not installed")
def test_the_page_for_the_browser_is_one_of_gradio_s_and_calls_the_function() -> None:
    """In a process of its own: gradio leaves an event loop behind."""
    command = [sys.executable, "-c", _SHOWS_THE_PAGE, str(EXAMPLES)]

    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    assert printed.splitlines() == ["Image Slider Slider Radio", "RGB"]
