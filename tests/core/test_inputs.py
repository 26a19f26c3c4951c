import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from bwpipe.core.inputs import find_files, leads_outside, open_input
from bwpipe.errors import MediaError, UsageError


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


def test_the_literal_reading_of_a_pattern_is_found_besides_the_wildcard(tree: Path) -> None:
    for name in ("film [1922]/a.png", "film [1922]/b.png", "film 1/c.png", "deep/film [1922]/d.png"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).touch()

    assert names(tree / "film [1922]/*.png") == ["a.png", "b.png"]
    assert names(tree / "film [1922]/[ab].png") == ["a.png", "b.png"]
    assert names(tree / "film [129]/*.png") == ["film 1/c.png"]
    assert names(tree / "d*/film [1922]/*.png") == ["deep/film [1922]/d.png"]
    assert names(tree / "film [1922]*/*.png") == ["film 1/c.png", "film [1922]/a.png", "film [1922]/b.png"]


def test_an_impossible_pattern_is_rejected(tree: Path) -> None:
    with pytest.raises(UsageError, match=r"Invalid pattern.*give another pattern"):
        names(tree / "**.png")


def test_links_to_themselves_pipes_and_sockets_are_named_and_never_waited_for(tree: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tree)
    (tree / "loop.png").symlink_to("loop.png")
    os.mkfifo(tree / "pipe.png")
    (tree / "to_pipe.png").symlink_to("pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")

    odd = ["loop.png", "pipe.png", "socket.png", "to_pipe.png"]
    assert names(tree) == ["a.png", "b.png", "deep/er/c.png", "deep/f.txt", *odd]
    assert names(tree / "*.png") == ["a.png", "b.png", *odd]
    for name, kind in (("pipe.png", "a pipe"), ("to_pipe.png", "a pipe"), ("socket.png", "a socket")):
        with pytest.raises(MediaError, match=f"it is {kind}, which is not read"):
            open_input(tree / name)
        with pytest.raises(UsageError, match=f"{name} is {kind}, not a file or folder"):
            names(tree / name)
    with pytest.raises(UsageError, match="is a link that can't be followed"):
        names(tree / "loop.png")


def test_folders_can_be_nested_more_deeply_than_calls(tree: Path) -> None:
    deep = "/".join(["d"] * 500)
    (tree / deep).mkdir(parents=True)
    (tree / deep / "deepest.png").touch()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(400)

    try:
        assert names(tree)[2] == f"{deep}/deepest.png"
    finally:
        sys.setrecursionlimit(limit)


def test_a_missing_path_is_rejected(tree: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file or folder .*gone; check the name"):
        names(tree / "gone")


def test_a_link_that_leads_outside_the_folder_is_detected(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "g.png"
    outside.touch()
    (tree / "link.png").symlink_to(outside)
    (tree / "alias.png").symlink_to(tree / "a.png")

    assert {str(name) for path, name in find_files(str(tree)) if leads_outside(path, name)} == {"link.png"}
