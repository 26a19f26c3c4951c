"""Shells complete commands, stages, networks, losses, and the options of a graph's stages."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bwpipe.cli.main import app


def completed(*words: str) -> list[str]:
    """What bash offers for the last word."""
    environment = {
        "_BWPIPE_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["bwpipe", *words]),
        "COMP_CWORD": str(len(words)),
    }
    result = CliRunner().invoke(app, [], prog_name="bwpipe", env={**os.environ, **environment})
    return result.stdout.split()


def test_names_of_commands_stages_networks_and_losses_are_completed() -> None:
    assert completed("colo") == ["colorize"]
    assert completed("stages", "stea") == ["steady"]  # other tests of this process may have registered stages of their own
    assert "unet" in completed("models", "un")
    assert "chroma_bins" in completed("losses", "chroma_b")
    assert "autoencoder" in completed("colorize", "in", "--model", "auto")


def test_the_stages_and_options_of_the_graph_are_completed_after_set(tmp_path: Path) -> None:
    graph = tmp_path / "graph.yaml"
    graph.write_text("stages:\n- use: read\n  path: in\n- use: write\n  id: archive\n  path: out\n- use: write\n  path: out2\n")

    assert completed("run", str(graph), "--set", "") == ["read.", "archive.", "write."]
    assert "archive.codec=" in completed("run", str(graph), "--set", "arch")
    assert completed("run", str(graph), "--set", "archive.cod") == ["archive.codec="]
    assert completed("colorize", "in", "--set", "colorize.viv") == ["colorize.vividness="]


@pytest.mark.parametrize("text", ["stages: [", "a: b", "- 1"])
def test_a_graph_that_cannot_be_read_completes_nothing(tmp_path: Path, text: str) -> None:
    graph = tmp_path / "graph.yaml"
    graph.write_text(text)

    assert completed("run", str(graph), "--set", "r") == []
    assert completed("run", str(tmp_path / "none.yaml"), "--set", "r") == []
