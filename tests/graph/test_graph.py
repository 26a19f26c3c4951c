"""Reading graphs: their content, and every error message about an invalid one, verbatim."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bwpipe.core import plugins
from bwpipe.core.stage import Stage
from bwpipe.errors import UsageError
from bwpipe.graph.graph import Graph, read_graph
from bwpipe.graph.json_schema import schema
from bwpipe.graph.yaml_loader import ConfigError, parse

PLUGIN = '''
"""Stages with options and ports that no built-in stage has."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bwpipe import End, Frame, Map, Stage, UsageError, stage


class Edge(BaseModel):
    model_config = ConfigDict(extra="forbid")

    left: Annotated[int, Field(ge=0)]
    right: int = 0


@stage("odd_crop")
class OddCrop(Map):
    """Has options of many types."""

    edge: Edge | None = None
    edges: list[Edge] = []
    size: tuple[int, int] = (0, 0)
    levels: Literal["auto", "off"] = "auto"
    segment: Annotated[int, Field(ge=1)] | Literal["off"] = 1000
    gain: Annotated[float, Field(gt=0, lt=2)] = 1
    even: int = 0
    clean: bool = False

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("it must be even; add 1")
        return value

    @model_validator(mode="after")
    def _some(self) -> "OddCrop":
        if self.clean and self.levels == "off":
            raise ValueError("nothing can be cleaned with `levels: off`; remove one of both")
        if self.gain == 1.5:
            raise UsageError("this gain is not supported; use another")
        return self

    def apply(self, frame: Frame) -> Frame:
        return frame


@stage("odd_count")
class OddCount(Stage):
    """Turns frames into numbers."""

    def stream(self, items: Iterator[Frame | End]) -> Iterator[int]:
        yield sum(isinstance(item, Frame) for item in items)
'''


@pytest.fixture(scope="module", autouse=True)
def _odd_stages(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "odd.py").write_text(PLUGIN)
    plugins.load([folder])


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def graph(text: str, changes: Any = ()) -> Graph:
    Path("pipeline.yaml").write_text(text)
    return read_graph("pipeline.yaml", changes)


def errors(text: str | bytes, changes: Any = ()) -> list[str]:
    Path("pipeline.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        read_graph("pipeline.yaml", changes)
    return str(caught.value).splitlines()


def stages(*entries: str, top: str = "") -> str:
    """A graph file whose first stage starts on line 2 plus the lines of `top`, in column 5."""
    return top + "stages:\n" + "".join(f"  - {entry}\n" for entry in entries)


READ, WRITE = "{use: read, path: in}", "{use: write, path: out}"
VALID = stages(READ, "use: colorize", WRITE)


@cache
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


@dataclass(frozen=True)
class Invalid:
    """An invalid graph, its error message, and whether the printed schema must reject it too."""

    text: str
    message: str
    schema: bool


def crop(options: str) -> str:
    return stages(READ, f"{{use: odd_crop, {options}}}", WRITE)


INVALID = {
    # the file as a whole
    "empty": Invalid("# nothing\n", "1:1: this is empty; start with `stages:` and a list of them", True),
    "a list": Invalid("- use: read\n", "1:1: keys are missing; start with `stages:` and a list of them", True),
    "no stages": Invalid("queue: 4\n", "1:1: stages is missing; give a list that is not empty", True),
    "nothing in stages": Invalid("stages:\n", "1:8: stages: expected a list that is not empty, not nothing", True),
    "an empty list": Invalid("stages: []\n", "1:9: stages: expected a list that is not empty, not []", True),
    "stages by name": Invalid(
        "stages:\n  read: {path: in}\n",
        '2:3: stages: expected a list that is not empty, not {"read": {"path": "in"}}',
        True,
    ),
    "unknown key": Invalid(VALID + "queu: 8\n", "5:1: unknown option 'queu' of the graph; did you mean 'queue'?", True),
    "queue of zero": Invalid(VALID + "queue: 0\n", "5:8: queue: expected an integer of at least 1, not 0", True),
    "unknown policy": Invalid(
        VALID + "on_error: skp\n", "5:11: on_error: expected 'skip' or 'stop', not 'skp'; did you mean 'skip'?", True
    ),
    "negative max_errors": Invalid(
        VALID + "max_errors: -1\n", "5:13: max_errors: expected an integer of at least 0, not -1", True
    ),
    "plugins without brackets": Invalid(
        VALID + "plugins: mine\n",
        "5:10: plugins: expected a list, each item text that is not empty, not 'mine'; write [mine]",
        True,
    ),
    "missing plugin folder": Invalid(VALID + "plugins: [mine]\n", "5:11: there is no plugin folder mine", False),
    # stages
    "a bare name": Invalid(
        stages("read", WRITE), "2:5: a stage is given by its name and options; write `use: NAME`", True
    ),
    "no use": Invalid(stages("path: in", WRITE), "2:5: use is missing; give the name of a stage", True),
    "two without use": Invalid(
        stages(READ, "batch: 2", "batch: 2"),
        "3:5: use is missing; give the name of a stage\n4:5: use is missing; give the name of a stage",
        True,
    ),
    "use is a number": Invalid(
        stages(READ, "use: 3", WRITE), "3:10: use: expected the name of a stage, not 3; put it in quotes", True
    ),
    "unknown stage": Invalid(
        stages(READ, "use: colorise", WRITE), "3:10: unknown stage 'colorise'; did you mean 'colorize'?", True
    ),
    "id with a dot": Invalid(
        stages(READ, "{use: colorize, id: a.b}", WRITE),
        "3:25: id: expected a name without spaces and dots, not 'a.b'",
        True,
    ),
    "from is a number": Invalid(
        stages(READ, "{use: colorize, from: 1}", WRITE), "3:27: from: expected text, not 1; put it in quotes", True
    ),
    # options
    "unknown option": Invalid(
        stages(READ, "{use: colorize, bach: 4}", WRITE),
        "3:21: unknown option 'bach' of 'colorize'; did you mean 'batch'?",
        True,
    ),
    "a word for a number": Invalid(
        stages(READ, "{use: colorize, batch: four}", WRITE),
        "3:28: batch: expected an integer of at least 1, not 'four'",
        True,
    ),
    "a number in quotes": Invalid(
        stages(READ, "{use: colorize, batch: '4'}", WRITE), "3:28: batch: expected an integer of at least 1, not '4'", True
    ),
    "a boolean for a number": Invalid(
        stages(READ, "{use: colorize, batch: true}", WRITE), "3:28: batch: expected an integer of at least 1, not true", True
    ),
    "yes for true": Invalid(
        stages(READ, "{use: write, path: out, overwrite: yes}"),
        "3:40: overwrite: expected true or false, not 'yes'; write true",
        True,
    ),
    "too large": Invalid(
        stages(READ, "{use: colorize, vividness: 2}", WRITE),
        "3:32: vividness: expected a number from 0 to 1, not 2",
        True,
    ),
    "not one of the choices": Invalid(
        stages(READ, "{use: colorize, precision: bfloat}", WRITE),
        "3:32: precision: expected 'auto', 'float32', 'bfloat16' or 'float16', not 'bfloat'; did you mean 'bfloat16'?",
        True,
    ),
    "no path": Invalid(stages(READ, "use: write"), "3:5: path is missing; give a path", True),
    "an empty path": Invalid(stages(READ, "{use: write, path: }"), "3:23: path: expected a path, not nothing", True),
    "an empty text for a path": Invalid(stages(READ, '{use: write, path: ""}'), "3:24: path: expected a path, not ''", False),
    "an empty text to read": Invalid(
        stages('{use: read, path: ""}', WRITE),
        "2:23: path: expected text that is not empty or a list that is not empty, each item text that is not empty, not ''",
        True,
    ),
    "a folder named by a year": Invalid(
        stages("{use: read, path: 1922}", WRITE),
        "2:23: path: expected text that is not empty or a list that is not empty, each item text that is not empty, not 1922; "
        "put it in quotes",
        True,
    ),
    "a number among texts": Invalid(
        stages(READ, "{use: write, path: out, options: {tune: 3}}"),
        "3:45: options.tune: expected text, not 3; put it in quotes",
        True,
    ),
    "one value of two": Invalid(crop("size: [3]"), "3:27: size: expected a list of 2: an integer, an integer, not [3]", True),
    "a wrong item": Invalid(crop("size: [3, x]"), "3:31: size[1]: expected an integer, not 'x'", True),
    "off misspelt": Invalid(
        crop("segment: of"), "3:30: segment: expected an integer of at least 1 or 'off', not 'of'; did you mean 'off'?", True
    ),
    "out of an open range": Invalid(crop("gain: 2"), "3:27: gain: expected a number above 0 and below 2, not 2", True),
    "unknown inner option": Invalid(
        crop("edge: {left: 1, rigt: 2}"), "3:37: unknown option 'rigt' of 'edge'; did you mean 'right'?", True
    ),
    "no inner option": Invalid(
        crop("edges: [{right: 2}]"), "3:29: edges[0].left is missing; give an integer of at least 0", True
    ),
    "an inner value": Invalid(
        crop("edge: {left: -1}"), "3:34: edge.left: expected an integer of at least 0, not -1", True
    ),
    "field validator": Invalid(crop("even: 3"), "3:27: even: it must be even; add 1", False),
    "model validator": Invalid(
        crop("clean: true, levels: off"), "3:5: nothing can be cleaned with `levels: off`; remove one of both", False
    ),
    "usage error of a stage": Invalid(crop("gain: 1.5"), "3:5: this gain is not supported; use another", False),
    # positions
    "duplicate name": Invalid(
        stages(READ, "use: colorize", "use: colorize", WRITE),
        "4:5: a second stage is called 'colorize'; give it an `id` of its own",
        False,
    ),
    "duplicate id": Invalid(
        stages(READ, "use: colorize", "{use: odd_crop, id: colorize}", WRITE),
        "4:25: a second stage is called 'colorize'; give it an `id` of its own",
        False,
    ),
    "unknown from": Invalid(
        stages(READ, "use: colorize", "{use: write, path: out, from: colorise}"),
        "4:35: no stage above is called 'colorise'; did you mean 'colorize'?",
        False,
    ),
    "from below": Invalid(
        stages(READ, "{use: odd_crop, from: colorize}", "use: colorize", WRITE),
        "3:27: 'colorize' is defined below; move it above the stages that follow it",
        False,
    ),
    "from itself": Invalid(
        stages(READ, "{use: colorize, from: colorize}", WRITE),
        "3:27: no stage above is called 'colorize'; known: read",
        False,
    ),
    "no source": Invalid(
        stages("use: colorize", WRITE),
        "2:5: 'colorize' takes Frame, so it can't come first; start with a stage that reads",
        True,
    ),
    "two sources": Invalid(
        stages(READ, "{use: read, path: in, id: more}", WRITE),
        "3:5: 'more' is a second source, and a graph can have only one; put it into another graph",
        True,
    ),
    "a source that follows": Invalid(
        stages("{use: read, path: in, from: write}", WRITE),
        "2:33: 'read' is a source and can't follow another stage; remove `from`",
        True,
    ),
    "after a sink": Invalid(
        stages(READ, WRITE, "use: colorize"),
        "4:5: 'colorize' can't follow 'write', which has no output; name another stage above with `from`",
        False,
    ),
    "ports that differ": Invalid(
        stages(READ, "use: odd_count", WRITE),
        "4:5: 'write' takes Frame, but 'odd_count' gives int; "
        "put a stage between them that converts one to the other, or name another stage above with `from`",
        False,
    ),
    "wrong order": Invalid(
        stages(READ, "use: dataset", "use: pairs"),
        "3:5: 'dataset' takes Pair, but 'read' gives Frame; "
        "put a stage between them that converts one to the other, or name another stage above with `from`\n"
        "4:5: 'pairs' takes Frame, but 'dataset' gives Dataset; "
        "put a stage between them that converts one to the other, or name another stage above with `from`",
        False,
    ),
    "no sink": Invalid(
        stages(READ, "use: colorize"),
        "3:5: no stage takes the output of 'colorize', so it would be lost; add a stage that writes it",
        False,
    ),
    "a branch without a sink": Invalid(
        stages(READ, "use: colorize", "{use: write, path: out, from: read}"),
        "3:5: no stage takes the output of 'colorize', so it would be lost; add a stage that writes it",
        False,
    ),
    "the source last": Invalid(
        stages("use: colorize", READ, WRITE),
        "2:5: 'colorize' takes Frame, so it can't come first; start with a stage that reads\n"
        "3:5: 'read' is the source, so it must come first; move it to the top",
        True,
    ),
    "several errors at once": Invalid(
        "on_error: no\nstages:\n  - use: read\n    pth: in\n  - use: colorize\n    batch: 0\n    model:\n  - use: wirte\n",
        "1:11: on_error: expected 'skip' or 'stop', not 'no'\n"
        "3:5: path is missing; give text that is not empty or a list that is not empty, each item text that is not empty\n"
        "4:5: unknown option 'pth' of 'read'; did you mean 'path'?\n"
        "6:12: batch: expected an integer of at least 1, not 0\n"
        "7:11: model: expected text or a list that is not empty, each item text, not nothing\n"
        "8:10: unknown stage 'wirte'; did you mean 'write'?",
        True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("invalid", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_graph_is_rejected_with_position_reason_and_remedy(invalid: Invalid) -> None:
    assert errors(invalid.text) == [f"pipeline.yaml:{line}" for line in invalid.message.splitlines()]


@pytest.mark.parametrize("invalid", INVALID.values(), ids=INVALID.keys())
def test_the_printed_schema_rejects_what_a_schema_can(invalid: Invalid) -> None:
    assert validator().is_valid(parse(invalid.text.encode()).data) is not invalid.schema


SYNTAX = {
    "a tab": (b"stages:\n\t- use: read\n", "2:1: a tab can't indent; use spaces"),
    "a key twice": (b"queue: 4\nqueue: 5\n", "2:1: 'queue' is given twice, first on line 1; remove one"),
    "an anchor": (
        b"stages: &all []\n",
        "1:9: '&all' is an anchor, which can't be in a graph file; remove it, or use quotes",
    ),
    "a tag": (
        b"queue: !!int 4\n",
        "1:8: 'tag:yaml.org,2002:int' is a tag, which can't be in a graph file; remove it, or use quotes",
    ),
    "two documents": (b"queue: 4\n---\nqueue: 4\n", "2:1: a second document starts here; keep one per file"),
    "Latin-1": ("queue: 4\n# été".encode("latin-1"), "2:3: this is not UTF-8; save the file as UTF-8"),
    "NUL": (b"queue: 4\n\0", "2:1: the character '\\x00' can't be in YAML; remove it"),
    "too deep": (b"[" * 30, "1:21: more than 20 nested lists and mappings; use fewer"),
}


@pytest.mark.parametrize(("content", "message"), SYNTAX.values(), ids=SYNTAX.keys())
def test_a_syntax_error_is_reported_with_its_position(content: bytes, message: str) -> None:
    assert errors(content) == [f"pipeline.yaml:{message}"]


def test_a_missing_file_and_a_folder_are_rejected() -> None:
    with pytest.raises(ConfigError, match=r"^no\.yaml: this file does not exist; `bwpipe init` writes one to start from$"):
        read_graph("no.yaml")
    with pytest.raises(ConfigError, match=r"^\.: can't be read \(Is a directory\)$"):
        read_graph(Path())
    with pytest.raises(ConfigError, match=r"can't be read"):
        read_graph("a\0b")


def test_a_long_list_of_errors_is_truncated() -> None:
    lines = errors(stages(READ, *[f"use: nothing{i}" for i in range(30)]))

    assert len(lines) == 21
    assert lines[-1] == "pipeline.yaml: and 10 more; fix these first"


def test_a_valid_graph_keeps_order_and_positions() -> None:
    built = graph(VALID + "queue: 9\nmax_errors: 3\n")

    assert [(node.id, node.upstream, node.where) for node in built.nodes] == [
        ("read", None, "pipeline.yaml:2:5"),
        ("colorize", "read", "pipeline.yaml:3:5"),
        ("write", "colorize", "pipeline.yaml:4:5"),
    ]
    assert (built.queue, built.max_errors, built.on_error, built.path) == (9, 3, "skip", Path("pipeline.yaml"))
    assert validator().is_valid(parse(VALID.encode()).data)


def test_branches_follow_the_stage_named_by_from() -> None:
    text = stages(
        READ,
        "use: colorize",
        WRITE,
        "{use: odd_crop, from: colorize}",
        "{use: write, path: small, id: other}",
        "{use: odd_count, from: read}",
    )

    built = graph(text)

    assert [(node.id, node.upstream) for node in built.nodes] == [
        ("read", None),
        ("colorize", "read"),
        ("write", "colorize"),
        ("odd_crop", "colorize"),
        ("other", "odd_crop"),
        ("odd_count", "read"),
    ]


def test_a_training_graph_may_end_in_a_stage_that_is_not_a_sink() -> None:
    built = graph(stages(READ, "use: pairs", "use: dataset", "use: fit", "{use: save, path: net.safetensors}"))

    assert [node.id for node in built.nodes] == ["read", "pairs", "dataset", "fit", "save"]


def options(built: Graph, name: str) -> dict[str, Any]:
    stage: Stage = next(node.stage for node in built.nodes if node.id == name)
    return stage.model_dump()


def test_off_is_text_and_other_values_keep_their_type() -> None:
    built = graph(crop("levels: off, segment: off, size: [1, 2], gain: 1, edge: {left: 3}"))

    expected = {"levels": "off", "segment": "off", "size": (1, 2), "gain": 1.0, "edge": {"left": 3, "right": 0}}
    assert options(built, "odd_crop").items() >= expected.items()


def test_a_dict_can_be_a_graph() -> None:
    built = read_graph({"stages": [{"use": "read", "path": "in"}, {"use": "write", "path": Path("out")}], "queue": 2})

    assert options(built, "write")["path"] == Path("out")
    assert [node.where for node in built.nodes] == ["stages[0]", "stages[1]"]
    assert (built.queue, built.path) == (2, None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"stages": [{"use": "read", "path": "in"}, {"use": "write"}]}, "stages[1]: path is missing; give a path"),
        ({"queue": 0, "stages": [{"use": "raed"}]}, "graph: queue: expected an integer of at least 1, not 0\n"
         "stages[0]: unknown stage 'raed'; did you mean 'read'?"),
        ({"queue": object()},
         "the graph contains a value that YAML can't represent: Unable to serialize unknown type: <class 'object'>"),
    ],
)  # fmt: skip
def test_errors_in_a_dict_name_the_stage_index(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_graph(data)

    assert str(caught.value) == message


def test_plugin_folders_are_relative_to_the_graph_file(tmp_path: Path) -> None:
    (tmp_path / "graphs" / "mine").mkdir(parents=True)
    method = "    def apply(self, item: Frame) -> Frame: ...\n"
    source = f"from bwpipe import Frame, Map, stage\n@stage('near')\nclass Near(Map):\n{method}"
    (tmp_path / "graphs" / "mine" / "near.py").write_text(source)
    path = tmp_path / "graphs" / "pipeline.yaml"
    path.write_text(stages(READ, "use: near", WRITE, top="plugins: [mine]\n"))

    assert [node.id for node in read_graph(path).nodes] == ["read", "near", "write"]


def test_a_plugin_error_is_reported_at_the_folder_in_the_graph() -> None:
    Path("mine").mkdir()
    Path("mine", "broken.py").write_text("1 / 0")

    lines = errors(stages(READ, WRITE, top="plugins:\n  - mine\n"))

    assert lines == ["pipeline.yaml:2:5: plugin mine/broken.py can't be imported: ZeroDivisionError: division by zero"]


FRAGMENTS = st.sampled_from(
    ["stages:", "\n", "  - ", "    ", "use: read", "use: write", "use: colorize", "path: in", "batch: 4", "id: a", "from: a",
     "queue: 4", "plugins: ", "[", "]", "{", "}", ", ", ": ", "-1", "null", "true", "'", "#", "on_error: stop", "use: odd_crop",
     "edge: ", "left: 1", "size: "]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary() | st.text().map(str.encode) | st.lists(FRAGMENTS, max_size=30).map(lambda parts: "".join(parts).encode()))
def test_any_file_is_a_graph_or_rejected(content: bytes) -> None:
    Path("pipeline.yaml").write_bytes(content)
    with suppress(ConfigError):
        read_graph("pipeline.yaml")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["read", "write", "odd_crop"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["stages", "use", "id", "from", "path", "batch", "queue", "edge", "size", "left", "plugins"]), inner
        )
    ),
    max_leaves=15,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(st.sampled_from(["use", "id", "from", "path", "edge", "size", "edges"]), VALUES) | VALUES, max_size=4
    ),
    VALUES,
)
def test_any_dict_is_a_graph_or_rejected(entries: list[Any], other: Any) -> None:
    for data in ({"stages": entries}, {"stages": entries, "queue": other}, {"stages": other}):
        with suppress(ConfigError):
            read_graph(data)


def test_a_config_error_is_a_usage_error() -> None:
    assert issubclass(ConfigError, UsageError)
