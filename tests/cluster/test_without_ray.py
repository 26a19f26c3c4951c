"""What is said where Ray is not installed, and of options that do not go together."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from bwpipe.cli.main import app
from bwpipe.cluster import ray_connection, ray_pool
from bwpipe.cluster.ray_pool import RayPool
from bwpipe.errors import UsageError
from bwpipe.graph.graph import Cluster
from tests.support.tripping import tripping_graph

COMPOSE = Path(__file__).parents[2] / "examples" / "cluster" / "compose.yaml"
SCHEMA = {
    "type": "object",
    "required": ["services"],
    "additionalProperties": False,
    "patternProperties": {"^x-": {}},
    "properties": {
        "services": {
            "type": "object",
            "minProperties": 2,
            "additionalProperties": {
                "type": "object",
                "required": ["command"],
                "additionalProperties": False,
                "properties": {
                    "image": {"type": "string"},
                    "build": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {"context": {"type": "string"}, "dockerfile": {"type": "string"}},
                    },
                    "command": {"type": "string"},
                    "environment": {"type": "object", "additionalProperties": {"type": "string"}},
                    "shm_size": {"type": "string", "pattern": r"^\d+[kmg]b$"},
                    "volumes": {"type": "array", "items": {"type": "string", "pattern": ":/"}},
                    "working_dir": {"type": "string"},
                    "networks": {"type": "array", "items": {"type": "string"}},
                    "healthcheck": {"type": "object", "required": ["test"]},
                    "depends_on": {"type": "object"},
                },
            },
        },
        "networks": {"type": "object"},
    },
}
"""Of the Compose specification, what the example uses: a misspelt key is found."""


def test_without_ray_a_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ray_connection._SETTINGS.items():  # which it sets, too
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(UsageError, match=r"Ray is not installed; install it on each machine \(.* -m pip install ray\)"):
        RayPool("auto", Cluster(), None)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["run", "--ray-workers", "2"], "add `--ray auto`"),
        (["run", "--ray", "auto", "--share", "0/2"], "two ways to use several machines"),
        (["check", "--ray", "auto", "--json"], "omit --ray or --json"),
    ],
)
def test_options_that_do_not_go_together_are_refused(folder: Path, tmp_path: Path, options: list[str], text: str) -> None:
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(tripping_graph(folder, tmp_path / "out")))
    result = CliRunner().invoke(app, [options[0], str(file), *options[1:]])

    assert result.exit_code == 2
    assert text in " ".join(result.output.replace("\u2502", " ").split())


@pytest.mark.parametrize(("text", "size"), [("4 GiB", 4 << 30), ("500MB", 500_000_000), (None, None)])
def test_memory_of_a_worker_is_given_with_its_unit(text: str | None, size: int | None) -> None:
    assert Cluster(memory=text).memory_bytes == size


def test_the_example_for_docker_compose_keeps_to_the_specification() -> None:
    found = yaml.safe_load(COMPOSE.read_text("utf-8"))
    Draft202012Validator(SCHEMA).validate(found)

    assert set(found["services"]) == {"head", "worker"}
    assert found["services"]["worker"]["volumes"] == found["services"]["head"]["volumes"]
    assert (COMPOSE.parents[2] / found["services"]["head"]["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            "Traceback:\n    raise ModuleNotFoundError(name)\nModuleNotFoundError: No module named 'bwpipe'\n",
            "No module named 'bwpipe'; install bwpipe there, in the same version",
        ),
        ("Task was killed due to the node running low on memory.", "Ray ends workers where a machine's memory is nearly full"),
        ("The actor died unexpectedly", "its process or its machine has ended"),
    ],
)
def test_why_a_worker_was_lost_is_a_few_words(error: str, text: str) -> None:
    assert str(ray_pool._lost(Exception(error))).startswith(text)
