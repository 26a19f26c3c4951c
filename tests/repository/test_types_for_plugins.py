"""Type checkers find bwpipe from a plug-in outside the checkout, with the README's installation."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("python", "write-a-stage", "write-a-network", "write-a-loss")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_mypy_strict_checks_what_the_docs_show_against_the_types_of_bwpipe(tmp_path: Path) -> None:
    for page in PAGES:
        blocks = re.findall(r"```python\n(.*?)```", (DOCS / "how-to" / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)
        (tmp_path / f"{page.replace('-', '_')}.py").write_text("\n\n".join(blocks), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "."]

    right = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    with (tmp_path / "write_a_stage.py").open("a", encoding="utf-8") as file:
        file.write("\nInvert(id=1).apply(1)\n")
    wrong = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert right.stdout == f"Success: no issues found in {len(PAGES)} source files\n"
    assert 'Argument 1 to "apply" of "Invert" has incompatible type "int"; expected "Frame"' in wrong.stdout
