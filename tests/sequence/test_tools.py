"""`bwpipe check`, its probe, and `bwpipe preview` on numbered frames."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bwpipe.cli.main import app
from tests.support.made_reels import scene, write_reel


def graph(folder: Path, plugins: Path, **write: Any) -> Path:
    write_reel(folder / "in", "png8", scene(12))
    reading = {"use": "read", "path": str(folder / "in/reel1_%06d.png"), "rate": 24}
    stages: list[Any] = [reading, {"use": "paint_reel"}, {"use": "write", "path": str(folder / "out"), **write}]
    path = folder / "graph.yaml"
    path.write_text(json.dumps({"plugins": [str(plugins)], "stages": stages}), encoding="utf-8")
    return path


def bwpipe(*arguments: Any) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("write", [{}, {"as": "film", "codec": "ffv1"}], ids=["frames", "film"])
def test_a_reel_is_one_film_to_check_and_its_cost_is_estimated(write: dict[str, Any], tmp_path: Path, plugins: Path) -> None:
    text = bwpipe("check", graph(tmp_path, plugins, **write), "--probe")

    assert "would read: 1 film" in text
    assert "12 frames of 96x64, 0.5 s, png" in text
    assert "by a trial of 12 frames at its start" in text
    assert not (tmp_path / "out").exists()


def test_a_reel_is_previewed_by_frames_spread_over_it(tmp_path: Path, plugins: Path) -> None:
    path = graph(tmp_path, plugins)

    bwpipe("preview", tmp_path / "in/reel1_%06d.png", "--graph", path, "-o", tmp_path / "sheet.jpg")

    assert (tmp_path / "sheet.jpg").stat().st_size > 1000
