"""A training by the clock, from photographs that are packed in parts."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bwpipe.core import plugins
from bwpipe.data.dataset import split_validation
from bwpipe.nn.checkpoint import Checkpoint, load, save
from bwpipe.training.builders import build_untrained
from recipes.timed_training import Graph, Training, mean, pack, unpack

NETWORKS = Path(__file__).parents[1] / "support" / "networks"

GRAPH = """
stages:
- use: dataset
  split: 0.2
  weights: {rare: 0.5}
- use: fit
  model: test-rgb
  batch: 4
  average: 0.5
"""


@pytest.fixture
def packed(tmp_path: Path) -> tuple[Graph, Path, list[str]]:
    """Two folders of 20 photographs each, as a cached dataset, packed in parts."""
    plugins.load([NETWORKS])
    rng = np.random.default_rng(0)
    colour = np.stack([cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (32, 32)) for _ in range(40)])
    names = [f"{folder}/{number}.jpg" for folder in ("common", "rare") for number in range(20)]
    np.save(tmp_path / "colour.npy", colour)
    np.save(tmp_path / "grey.npy", colour.mean(3).astype(np.uint8))
    (tmp_path / "dataset.json").write_text(json.dumps({"names": names}))
    (tmp_path / "graph.yaml").write_text(GRAPH)
    graph = Graph.read(tmp_path / "graph.yaml")
    pack(graph, tmp_path, tmp_path / "parts", 3000, 1e-9)
    return graph, tmp_path, names


def test_parts_hold_each_photograph_once_and_those_for_validation_first(packed: tuple[Graph, Path, list[str]]) -> None:
    _, folder, names = packed
    parts = sorted((folder / "parts").iterdir(), key=lambda path: int(path.stem.partition("-")[2]))
    assert len(parts) > 1
    for part in parts:
        unpack(part, folder / "photographs")

    found = [name for part in parts for name in json.loads((folder / "photographs" / f"{part.stem}.json").read_text())["names"]]
    pixels = np.concatenate([np.load(folder / "photographs" / f"{part.stem}.npy") for part in parts])

    held_out = split_validation(names, 0.2, 42)
    assert sorted(found) == sorted(names)
    assert set(found[: len(held_out)]) == held_out
    colour = np.load(folder / "colour.npy")[[names.index(name) for name in found]]
    assert np.abs(pixels.astype(int) - colour).mean() < 8


def test_a_training_takes_parts_as_they_come_and_saves_the_average(packed: tuple[Graph, Path, list[str]]) -> None:
    graph, folder, names = packed
    unpack(folder / "parts" / "part-0.npz", folder / "photographs")
    training = Training(graph, folder / "photographs", folder / "out", torch.device("cpu"), capacity=30)
    first = len(training.data.names)
    for part in (folder / "parts").iterdir():
        unpack(part, folder / "photographs")

    training.run(1)
    training.take_parts()

    assert first < len(training.data.names) == 30
    assert set(training.data.weights.tolist()) == {0.5, 1.0}
    assert {training.data.names[index] for index in training.data.validation} == split_validation(names, 0.2, 42)
    assert len(training.data.training) + len(training.data.validation) == 30
    network, checkpoint = load(folder / "out" / "last.safetensors")
    assert network.registered == "test-rgb"
    assert checkpoint.training["steps"] > 0


def test_the_mean_is_halfway_between_both_with_statistics_of_its_own(packed: tuple[Graph, Path, list[str]]) -> None:
    graph, folder, _ = packed
    networks = [build_untrained(graph.options.model_copy(update={"model": "test-chroma", "seed": seed})) for seed in (1, 2)]
    for number, network in enumerate(networks):
        save(folder / f"{number}.safetensors", network, Checkpoint(network="test-chroma", options={}, version="0"))

    mean(graph, folder, folder / "0.safetensors", folder / "1.safetensors", folder / "mean.safetensors")

    first, second, found = (each.state_dict() for each in (*networks, load(folder / "mean.safetensors")[0]))
    torch.testing.assert_close(found["layers.0.weight"], (first["layers.0.weight"] + second["layers.0.weight"]) / 2)
    assert found["first.1.running_mean"].abs().min() > 0
