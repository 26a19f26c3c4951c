"""What plug-ins of bwpipe 0.1 import still works, and warns."""

from importlib import import_module
from typing import Any

import pytest

from bwpipe.core.aliases import NAMES


@pytest.mark.parametrize(("old", "home"), [(old, home) for old, home in NAMES.items() if len(home) == 2])
def test_a_name_that_changed_is_found_and_warned_of(old: str, home: tuple[str, str]) -> None:
    module, _, name = old.rpartition(".")
    place, new = home

    with pytest.warns(DeprecationWarning, match=f"^{old} is {place}.{new} now; import it from there$"):
        found = getattr(import_module(module), name)

    assert found is getattr(import_module(place), new)


@pytest.mark.parametrize(
    "text",
    [
        "from bwpipe.network import Guess, Network, NetworkOptions, Quality, network",
        "from bwpipe.losses import Look, LookLoss, Shown, loss\nfrom bwpipe.losses.truth import true_chroma",
        "from bwpipe.ports import Needs",
        "from bwpipe.motion import Motion\nfrom bwpipe.frame import Frame",
        "import bwpipe.network\nassert bwpipe.network.Network",
        "from bwpipe import Run, Outcome, plugins\nfrom bwpipe.base import stages",
    ],
)
def test_the_imports_that_the_docs_of_0_1_showed_work(text: str) -> None:
    names: dict[str, Any] = {}

    with pytest.warns(DeprecationWarning, match="import it from there"):
        exec(text, names)


def test_what_there_never_was_is_missing_still() -> None:
    with pytest.raises(ImportError):
        exec("from bwpipe.losses import nothing", {})
    with pytest.raises(ImportError):
        exec("from bwpipe.network import nothing", {})
    with pytest.raises(ModuleNotFoundError):
        import_module("bwpipe.nothing")


def test_a_warning_points_at_the_line_that_imports() -> None:
    with pytest.warns(DeprecationWarning, match="bwpipe.ports.Needs") as caught:
        exec(compile("\nfrom bwpipe.ports import Needs", "plugin.py", "exec"), {})

    assert [(each.filename, each.lineno) for each in caught] == [("plugin.py", 2)]
