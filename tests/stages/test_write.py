"""The dates of files that the `write` stage makes."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bwpipe
from tests.support.made_films import MKV, make_film

THEN = 1_000_000_000_123_456_789
"""In September 2001, to the nanosecond."""


def run(folder: Path, out: Path, **options: str) -> "bwpipe.RunResult":
    graph = [{"use": "read", "path": str(folder)}, {"use": "write", "path": str(out), "codec": "ffv1", **options}]
    result = bwpipe.run({"segment": 10, "stages": graph})
    assert not result.failed
    return result


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    make_film(folder / "film.mkv", MKV)
    Image.fromarray(np.full((30, 40), 90, np.uint8)).save(folder / "picture.png")
    for path in folder.iterdir():
        os.utime(path, ns=(THEN, THEN))
    return folder


def test_files_can_keep_the_dates_of_their_inputs(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path / "out", times="keep")

    outputs = [path for path in (tmp_path / "out").iterdir() if path.is_file()]
    assert {path.name: path.stat().st_mtime_ns for path in outputs} == {"film.mkv": THEN, "picture.png": THEN}
    assert all(path.stat().st_mtime_ns == THEN for path in inputs.iterdir())


def test_dates_are_new_by_default_and_do_not_change_the_bytes(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path / "new")
    run(inputs, tmp_path / "kept", times="keep")

    for name in ("film.mkv", "picture.png"):
        new, kept = tmp_path / "new" / name, tmp_path / "kept" / name
        assert new.stat().st_mtime_ns > THEN
        assert new.read_bytes() == kept.read_bytes()


def test_files_with_old_dates_are_done_and_the_option_redoes_nothing(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path / "out", times="keep")

    again = run(inputs, tmp_path / "out", times="keep")
    otherwise = run(inputs, tmp_path / "out")

    assert (again.already, otherwise.already) == (2, 2)
    assert (tmp_path / "out" / "film.mkv").stat().st_mtime_ns == THEN
