"""Overrides by `--set`, and their error messages."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bwpipe.core import plugins
from bwpipe.core.options import build, options_of
from bwpipe.core.stage import stages
from bwpipe.engine.run import run_graph
from bwpipe.errors import UsageError
from bwpipe.graph.document import Override
from bwpipe.graph.graph import Graph, read_graph
from bwpipe.graph.templates import template
from bwpipe.graph.yaml_loader import ConfigError

TEXT = """\
stages:
  - use: read
    path: in
  - use: colorize
    batch: 2
  - use: write
    path: out
    options: {tune: film}
  - use: write
    path: small
    id: copy
    from: colorize
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pipeline.yaml").write_text(TEXT)


def option(graph: Graph, name: str, key: str) -> Any:
    return next(node.stage.model_dump()[key] for node in graph.nodes if node.id == name)


@pytest.mark.parametrize(
    ("change", "name", "key", "value"),
    [
        ("colorize.batch=4", "colorize", "batch", 4),
        ("colorize.vividness=0.5", "colorize", "vividness", 0.5),
        ("colorize.device=[cpu, cuda]", "colorize", "device", ["cpu", "cuda"]),
        ("read.path=a=b", "read", "path", "a=b"),
        ("read.path='1922'", "read", "path", "1922"),
        ('read.path="\\ud83d\\ude00"', "read", "path", "\N{GRINNING FACE}"),
        ("copy.overwrite=true", "copy", "overwrite", True),
        ("write.options.tune=grain", "write", "options", {"tune": "grain"}),
        ("write.options.bf='3'", "write", "options", {"tune": "film", "bf": "3"}),
        ("copy.options.bf='3'", "copy", "options", {"bf": "3"}),
        ("write.options={}", "write", "options", {}),
        ("write.format=", "write", "format", None),
    ],
)
def test_an_option_is_overridden_by_a_yaml_value(change: str, name: str, key: str, value: Any) -> None:
    assert option(read_graph("pipeline.yaml", [change]), name, key) == value


def test_settings_beside_the_stages_can_be_overridden() -> None:
    graph = read_graph("pipeline.yaml", ["queue=8", "on_error=stop", "plugins=[]"])

    assert (graph.queue, graph.on_error) == (8, "stop")


def test_overrides_can_be_a_dict() -> None:
    graph = read_graph("pipeline.yaml", {"colorize.batch": 4, "write.path": Path("else"), "queue": 1})

    assert (option(graph, "colorize", "batch"), option(graph, "write", "path"), graph.queue) == (4, Path("else"), 1)


def test_the_last_override_wins() -> None:
    assert option(read_graph("pipeline.yaml", ["colorize.batch=4", "colorize.batch=5"]), "colorize", "batch") == 5


def test_a_stage_with_an_id_can_be_addressed_by_its_name() -> None:
    Path("pipeline.yaml").write_text(
        TEXT.replace("use: colorize\n", "use: colorize\n    id: first\n").replace("from: c", "from: first #")
    )

    assert option(read_graph("pipeline.yaml", ["colorize.batch=3"]), "first", "batch") == 3


def test_an_override_can_fix_an_invalid_value_of_the_file() -> None:
    Path("pipeline.yaml").write_text(TEXT.replace("batch: 2", "batch: many"))

    assert option(read_graph("pipeline.yaml", ["colorize.batch=3"]), "colorize", "batch") == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("colorize.bach=4", "unknown option 'bach' of 'colorize'; did you mean 'batch'?"),
        ("colorize.batch=four", "batch: expected an integer of at least 1, not 'four'"),
        ("write.options.bf=3", "options.bf: expected text, not 3; put it in quotes"),
        ("write.options=3", "options: expected `key: value` pairs, each value text, not 3"),
        ("colorise.batch=4", "no stage is called 'colorise'; did you mean 'colorize'?"),
        ("queu=8", "unknown option 'queu' of the graph; did you mean 'queue'?"),
        ("plugins=mine", "plugins: expected a list, each item text that is not empty, not 'mine'; write [mine]"),
        ("plugins=[mine]", "there is no plugin folder mine"),
        ("colorize=4", "this sets a whole stage; write STAGE.OPTION=VALUE, such as colorize.batch=4"),
        ("stages=[]", "this sets a whole stage; write STAGE.OPTION=VALUE, such as colorize.batch=4"),
        ("colorize.batch", "write STAGE.OPTION=VALUE, such as colorize.batch=4"),
        ("=4", "write STAGE.OPTION=VALUE, such as colorize.batch=4"),
        ("colorize.=4", "write STAGE.OPTION=VALUE, such as colorize.batch=4"),
        ("read.path=[in", "the text ends inside a bracket; close it"),
        ("read.path=*.tif", "a value that starts with '*' or '&' must be in quotes"),
        ("colorize.from=reed", "no stage above is called 'reed'; did you mean 'read'?"),
        ("copy.use=wite", "unknown stage 'wite'; did you mean 'write'?"),
    ],
)
def test_an_error_names_the_override_instead_of_a_line(change: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_graph("pipeline.yaml", [change])

    assert str(caught.value) == f"--set {change}: {message}"


def test_an_ambiguous_stage_name_is_rejected() -> None:
    Path("pipeline.yaml").write_text(TEXT.replace("    path: out", "    id: large\n    path: out"))

    with pytest.raises(ConfigError) as caught:
        read_graph("pipeline.yaml", ["write.path=x"])

    assert str(caught.value) == "--set write.path=x: 2 stages are called 'write'; give each an `id` in the graph, and use that"


def test_an_error_in_a_dict_names_its_key() -> None:
    with pytest.raises(ConfigError) as caught:
        read_graph("pipeline.yaml", {"colorize.bach": 4, "write.path": object()})

    assert str(caught.value).splitlines() == [
        "set['write.path']: YAML can't represent this value: Unable to serialize unknown type: <class 'object'>",
        "set['colorize.bach']: unknown option 'bach' of 'colorize'; did you mean 'batch'?",
    ]


def test_errors_in_overrides_and_file_are_reported_together() -> None:
    Path("pipeline.yaml").write_text(TEXT.replace("batch: 2", "bach: 2"))

    with pytest.raises(ConfigError) as caught:
        read_graph("pipeline.yaml", ["read.frames=0", "wite.path=x"])

    assert str(caught.value).splitlines() == [
        "--set wite.path=x: no stage is called 'wite'; did you mean 'write'?",
        "--set read.frames=0: frames: expected an integer of at least 1, not 0",
        "pipeline.yaml:5:5: unknown option 'bach' of 'colorize'; did you mean 'batch'?",
    ]


def test_a_graph_that_was_read_can_be_overridden_too() -> None:
    graph = read_graph("pipeline.yaml", ["colorize.batch=3"])

    changed = graph.override({"colorize.vividness": 0.5, "queue": 9})

    assert (option(changed, "colorize", "batch"), option(changed, "colorize", "vividness"), changed.queue) == (3, 0.5, 9)
    assert (option(graph, "colorize", "vividness"), graph.queue) == (None, 2)
    with pytest.raises(ConfigError, match=r"set\['colorize.bach'\]: unknown option 'bach' of 'colorize'"):
        graph.override({"colorize.bach": 4})


def test_overridden_plugin_folders_are_relative_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("here/mine").mkdir(parents=True)
    monkeypatch.chdir("here")

    graph = read_graph("../pipeline.yaml", ["plugins=[mine]"])
    monkeypatch.chdir(tmp_path)

    assert graph.plugins == graph.override({"queue": 2}).plugins == (tmp_path / "here" / "mine",)


def test_the_text_of_a_graph_is_the_same_graph() -> None:
    Path("mine").mkdir()
    changes = ["plugins=[mine]", "segment=off", "max_errors=3", "write.name='1e3{stem}'", "write.options={crf-max: '0o7'}"]
    graph = read_graph("pipeline.yaml", changes)
    Path("again.yaml").write_text(str(graph))

    again = read_graph("again.yaml")

    assert [(node.id, node.upstream, type(node.stage), node.stage.model_dump()) for node in again.nodes] == [
        (node.id, node.upstream, type(node.stage), node.stage.model_dump()) for node in graph.nodes
    ]
    assert (again.plugins, again.segment, again.max_errors) == (graph.plugins, None, 3)
    assert again.description == graph.description


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("colorize.model=nope", "unknown network 'nope'; known: "),
        ("colorize.device=cuda:77", "there is no device 'cuda:77'"),
        ("write.codec=nope", "there is no video encoder 'nope'"),
    ],
)
def test_what_is_found_wrong_with_an_override_when_the_run_begins_is_said_of_the_override(
    change: str, error: str, tmp_path: Path
) -> None:
    assert cv2.imwrite(str(tmp_path / "grey.png"), np.zeros((8, 8), np.uint8))
    graph = read_graph(template("pipeline.yaml"), [f"read.path={tmp_path}", f"write.path={tmp_path / 'out'}", change])

    with pytest.raises(UsageError) as refusal:
        run_graph(graph, quiet=True)

    assert str(refusal.value).startswith(f"--set {change}: {error}")


PATHS = {"dataset.cache", "fit.runs", "pairs.gray", "save.path", "score.html", "write.path"}
PATHS_AS_TEXT = {"fit.start", "read.path", "score.on"}


def test_no_path_may_be_an_empty_text() -> None:
    plugins.load()
    options = [(name, option) for name in stages for option in options_of(stages[name])]
    assert {f"{name}.{option.name}" for name, option in options if "a path" in option.kind} >= PATHS

    for name, option in options:
        if "a path" in option.kind or f"{name}.{option.name}" in PATHS_AS_TEXT:
            problems = build(stages[name], {option.name: ""}, of=name)
            assert isinstance(problems, list)
            texts = [problem.text for problem in problems if problem.loc == (option.name,)]
            assert texts == [f"{option.name}: expected {option.kind.removesuffix(' or nothing')}, not ''"]


def test_a_path_that_is_not_utf8_is_refused_in_one_sentence() -> None:
    for key, value in {"read.path": "\udcff.jpg", "write.path": "\udcff.jpg", "plugins": ["\udcff.jpg"]}.items():
        with pytest.raises(UsageError, match=r"'\\udcff.jpg' has bytes that are not UTF-8; rename it, or for an input give"):
            read_graph("pipeline.yaml", [Override(key, value, "IN")])
