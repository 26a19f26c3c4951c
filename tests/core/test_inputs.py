import os
from pathlib import Path

import pytest

from bwpipe.core.inputs import find_files, leads_outside
from bwpipe.errors import UsageError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.png", "a.png", "deep/er/c.png", ".DS_Store", "Thumbs.db", ".bwpipe/d.part", "__MACOSX/e.png", "deep/f.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(path: Path | str) -> list[str]:
    return [str(name) for _, name in find_files(str(path))]


def test_a_folder_is_read_recursively_without_system_files(tree: Path) -> None:
    assert names(tree) == ["a.png", "b.png", "deep/er/c.png", "deep/f.txt"]


def test_a_file_stands_for_itself(tree: Path) -> None:
    assert names(tree / "deep/er/c.png") == ["c.png"]


def test_names_of_a_pattern_start_at_its_first_wildcard(tree: Path) -> None:
    assert names(tree / "**/*.png") == ["a.png", "b.png", "deep/er/c.png"]
    assert names(tree / "deep/*/c.png") == ["er/c.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_found(tree: Path) -> None:
    (tree / "scan [1].png").touch()

    assert names(tree / "scan [1].png") == ["scan [1].png"]


def test_circular_folder_links_are_not_followed(tree: Path) -> None:
    (tree / "deep/up").symlink_to(tree)

    assert names(tree) == ["a.png", "b.png", "deep/er/c.png", "deep/f.txt", "deep/up"]


def test_a_link_to_itself_and_a_pipe_are_harmless(tree: Path) -> None:
    (tree / "loop.png").symlink_to("loop.png")
    os.mkfifo(tree / "pipe.png")

    assert names(tree) == ["a.png", "b.png", "deep/er/c.png", "deep/f.txt", "loop.png"]
    with pytest.raises(UsageError, match="there is no file or folder"):
        names(tree / "pipe.png")


def test_a_missing_path_is_rejected(tree: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file or folder .*gone; give `read` another `path`"):
        names(tree / "gone")


def test_a_link_that_leads_outside_the_folder_is_detected(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "g.png"
    outside.touch()
    (tree / "link.png").symlink_to(outside)
    (tree / "alias.png").symlink_to(tree / "a.png")

    assert {str(name) for path, name in find_files(str(tree)) if leads_outside(path, name)} == {"link.png"}
