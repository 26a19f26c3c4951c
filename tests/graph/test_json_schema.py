"""The JSON Schema of graph files; test_graph.py tests that it rejects invalid ones."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bwpipe.core.stage import stages
from bwpipe.graph.json_schema import schema
from bwpipe.graph.yaml_loader import parse

ROOT = Path(__file__).parents[2]


@cache
def generated() -> dict[str, Any]:
    return schema()


def accepts(graph: Any) -> bool:
    return jsonschema.Draft202012Validator(generated()).is_valid(graph)


def test_it_is_a_valid_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(generated())

    assert json.loads(json.dumps(generated())) == generated()
    assert generated()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(
    "name", ["pipeline.yaml", "train.yaml", "fine-tune.yaml", "adapt.yaml", "examples/plugin_folder/pipeline.yaml"]
)
def test_it_accepts_the_graphs_that_come_with_bwpipe(name: str) -> None:
    assert accepts(parse((ROOT / name).read_bytes()).data)


def test_it_contains_names_options_and_descriptions_for_editors() -> None:
    found = generated()
    entry = found["$defs"]["entry"]
    rule = next(rule for rule in entry["allOf"] if rule["if"]["properties"]["use"]["const"] == "colorize")
    colorize = found["$defs"][rule["then"]["$ref"].rpartition("/")[2]]

    assert entry["properties"]["use"]["examples"] == list(stages)
    assert colorize["description"].startswith("Predicts the chroma")
    assert colorize["properties"]["batch"]["description"].startswith("Frames per batch")
    assert colorize["properties"]["batch"]["minimum"] == 1
    assert all(value.get("description") for value in found["properties"].values())


def test_unknown_stages_are_accepted_if_the_graph_names_plugin_folders() -> None:
    entries = [{"use": "my_reader", "any": 1}, {"use": "write", "path": "out"}]

    assert not accepts({"stages": entries})
    assert not accepts({"stages": entries, "plugins": []})
    assert accepts({"stages": entries, "plugins": ["mine"]})
    assert not accepts({"stages": [*entries, {"use": "write", "pth": "out"}], "plugins": ["mine"]})


def test_the_graphs_keys_are_accepted_beside_the_options_of_every_stage() -> None:
    entries = [{"use": "read", "path": "in", "id": "a"}, {"use": "write", "path": "out", "from": "a", "id": "b"}]

    assert accepts({"stages": entries, "queue": 4, "on_error": "stop", "max_errors": None})
