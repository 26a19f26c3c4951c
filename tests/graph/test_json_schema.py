"""The JSON Schema of graph files; that it refuses wrong ones is shown beside their messages, in test_config.py."""

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
def made() -> dict[str, Any]:
    return schema()


def accepts(graph: Any) -> bool:
    return jsonschema.Draft202012Validator(made()).is_valid(graph)


def test_it_is_a_schema_that_json_can_hold() -> None:
    jsonschema.Draft202012Validator.check_schema(made())

    assert json.loads(json.dumps(made())) == made()
    assert made()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("name", ["pipeline.yaml", "train.yaml", "examples/plugin_folder/pipeline.yaml"])
def test_it_accepts_the_graphs_that_come_with_bwpipe(name: str) -> None:
    assert accepts(parse((ROOT / name).read_bytes()).data)


def test_an_editor_finds_names_options_and_what_they_are_for() -> None:
    found = made()
    entry = found["$defs"]["entry"]
    rule = next(rule for rule in entry["allOf"] if rule["if"]["properties"]["use"]["const"] == "colorize")
    colorize = found["$defs"][rule["then"]["$ref"].rpartition("/")[2]]

    assert entry["properties"]["use"]["examples"] == list(stages)
    assert colorize["description"].startswith("Guesses the chroma")
    assert colorize["properties"]["batch"]["description"].startswith("How many frames are shown to the network together")
    assert colorize["properties"]["batch"]["minimum"] == 1
    assert all(value.get("description") for value in found["properties"].values())


def test_stages_of_plugin_folders_are_accepted_where_some_are_named() -> None:
    entries = [{"use": "my_reader", "any": 1}, {"use": "write", "path": "out"}]

    assert not accepts({"stages": entries})
    assert not accepts({"stages": entries, "plugins": []})
    assert accepts({"stages": entries, "plugins": ["mine"]})
    assert not accepts({"stages": [*entries, {"use": "write", "pth": "out"}], "plugins": ["mine"]})


def test_the_words_of_a_graph_stand_among_the_options_of_every_stage() -> None:
    entries = [{"use": "read", "path": "in", "id": "a"}, {"use": "write", "path": "out", "from": "a", "id": "b"}]

    assert accepts({"stages": entries, "queue": 4, "on_error": "stop", "max_errors": None})
