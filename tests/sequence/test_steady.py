"""A reel of numbered frames is as steady as the same reel in one file."""

import json
from pathlib import Path
from typing import Any

import pytest

import bwpipe
from tests.support.made_reels import SUFFIXES, Kind, scene, write_reel

FIGURES = ("luma_change", "chroma_change_before", "flicker", "drift_12")


def shot(folder: Path, plugins: Path, reading: dict[str, Any], out: str) -> dict[str, Any]:
    chain = [{"use": use} for use in ("grayscale", "shots", "tint_reel", "steady")]
    stages = [{"use": "read", **reading}, *chain, {"use": "write", "path": str(folder / out), "codec": "ffv1"}]
    assert bwpipe.run({"plugins": [str(plugins)], "segment": 16, "stages": stages}).done == 1
    lines = map(json.loads, (folder / out / ".bwpipe" / "report.jsonl").read_text().splitlines())
    (found,) = (line for line in lines if line["event"] == "shot")
    return {key: found[key] for key in FIGURES}


@pytest.mark.parametrize("kind", ["png8", "tiff16"])
def test_a_reel_with_a_gap_is_as_steady_as_in_ffv1(kind: Kind, tmp_path: Path, plugins: Path) -> None:
    write_reel(tmp_path / "in", kind, scene(30, step=0), skip=(9, 10))
    reading = {"path": str(tmp_path / "in" / f"reel1_%06d{SUFFIXES[kind]}"), "rate": 24, "gaps": "hold"}
    film = {"use": "write", "path": str(tmp_path / "film"), "as": "film", "codec": "ffv1"}
    assert bwpipe.run({"stages": [{"use": "read", **reading}, film]}).done == 1

    as_frames = shot(tmp_path, plugins, reading, "frames")

    assert as_frames == shot(tmp_path, plugins, {"path": str(tmp_path / "film" / "reel1.mkv")}, "one file")
    assert all(value > 0 for value in as_frames.values())
