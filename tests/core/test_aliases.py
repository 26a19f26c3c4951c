"""The imports of bwpipe 0.1 plug-ins still work, with a warning."""

from importlib import import_module
from typing import Any

import pytest

from bwpipe.core.aliases import NAMES


@pytest.mark.parametrize(("old", "home"), [(old, home) for old, home in NAMES.items() if len(home) == 2])
def test_a_moved_name_is_found_with_a_warning(old: str, home: tuple[str, str]) -> None:
    module, _, name = old.rpartition(".")
    new_module, new_name = home

    with pytest.warns(DeprecationWarning, match=f"^{old} is now {new_module}.{new_name}; import it from there$"):
        found = getattr(import_module(module), name)

    assert found is getattr(import_module(new_module), new_name)


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
def test_imports_from_the_0_1_docs_work(text: str) -> None:
    names: dict[str, Any] = {}

    with pytest.warns(DeprecationWarning, match="import it from there"):
        exec(text, names)


def test_names_that_never_existed_are_missing() -> None:
    with pytest.raises(ImportError):
        exec("from bwpipe.losses import nothing", {})
    with pytest.raises(ImportError):
        exec("from bwpipe.network import nothing", {})
    with pytest.raises(ModuleNotFoundError):
        import_module("bwpipe.nothing")


def test_the_warning_points_at_the_importing_line() -> None:
    with pytest.warns(DeprecationWarning, match="bwpipe.ports.Needs") as caught:
        exec(compile("\nfrom bwpipe.ports import Needs", "plugin.py", "exec"), {})

    assert [(each.filename, each.lineno) for each in caught] == [("plugin.py", 2)]
