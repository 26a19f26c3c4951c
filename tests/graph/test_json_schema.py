"""The JSON Schema of graph files; test_graph.py tests that it rejects invalid ones."""

import json
from collections.abc import Iterator
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

    assert found["$defs"]["stage"]["enum"] == list(stages)
    assert {"$ref": "#/$defs/stage"} in entry["properties"]["use"]["anyOf"], "in graphs with plug-ins, too"
    assert colorize["description"].startswith("Predicts the chroma")
    assert colorize["properties"]["batch"]["description"].startswith("Frames per batch")
    assert colorize["properties"]["batch"]["minimum"] == 1


def test_every_stage_and_option_that_ships_has_a_description() -> None:
    found = json.loads((ROOT / "bwpipe.schema.json").read_text(encoding="utf-8"))
    stage = found["$defs"].pop("stage")

    options = {
        f"{title}.{name}": value
        for title, model in [("graph", found), *found["$defs"].items()]
        for name, value in model["properties"].items()
        if value is not True
    }

    assert [len(text) > 20 for text in stage["enumDescriptions"]] == [True] * len(stage["enum"])
    assert len(options) > 100
    assert [name for name, value in options.items() if not (value.get("description") or "$ref" in value)] == []


def test_every_reference_leads_somewhere() -> None:
    """Editors give up a schema in which one does not, and a validator does not notice before it gets there."""

    def references(within: Any) -> Iterator[str]:
        for key, value in within.items() if isinstance(within, dict) else enumerate(within):
            if key == "$ref":
                yield value
            elif isinstance(value, dict | list):
                yield from references(value)

    assert set(references(generated())) == {f"#/$defs/{name}" for name in generated()["$defs"]}


@pytest.mark.parametrize(
    ("stage", "more", "place"),
    [
        ({"use": "colorize", "bach": 4}, {}, ["stages", 1]),
        ({"use": "colorise"}, {}, ["stages", 1, "use"]),
        ({"use": "colorize", "precision": "bfloat"}, {}, ["stages", 1, "precision"]),
        ({"use": "colorize", "vividness": 2}, {}, ["stages", 1, "vividness"]),
        ({"use": "write"}, {}, ["stages", 1]),
        ({"use": "write", "path": "out"}, {"queu": 3}, []),
        ({"use": "write", "path": "out"}, {"cluster": {"cpu": 4}}, ["cluster"]),
    ],
)
def test_an_error_is_shown_where_it_is(stage: dict[str, Any], more: dict[str, Any], place: list[str | int]) -> None:
    graph = {"stages": [{"use": "read", "path": "in"}, stage], **more}

    [error] = jsonschema.Draft202012Validator(generated()).iter_errors(graph)

    assert list(deepest(error).absolute_path) == place


def deepest(error: jsonschema.ValidationError) -> jsonschema.ValidationError:
    """The innermost cause, where alternatives have one."""
    return max([error, *map(deepest, error.context or [])], key=lambda each: len(each.absolute_path))


def test_unknown_stages_are_accepted_if_the_graph_names_plugin_folders() -> None:
    entries = [{"use": "my_reader", "any": 1}, {"use": "write", "path": "out"}]

    assert not accepts({"stages": entries})
    assert not accepts({"stages": entries, "plugins": []})
    assert accepts({"stages": entries, "plugins": ["mine"]})
    assert not accepts({"stages": [*entries, {"use": "write", "pth": "out"}], "plugins": ["mine"]})


def test_the_graphs_keys_are_accepted_beside_the_options_of_every_stage() -> None:
    entries = [{"use": "read", "path": "in", "id": "a"}, {"use": "write", "path": "out", "from": "a", "id": "b"}]

    assert accepts({"stages": entries, "queue": 4, "on_error": "stop", "max_errors": None})
