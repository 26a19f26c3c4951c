"""The YAML loader: values, source positions, and rejected input."""

import json
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwpipe.graph.yaml_loader import MAX_BYTES, MAX_DEPTH, parse

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)

TOKENS = [*" \n\t:-?[]{},#&*!|>'\"%@`\\ab<=0.1eU~\0\ufeff\x85é", "<<: ", "---", "..."]


def problems(text: str | bytes) -> list[str]:
    content = text.encode() if isinstance(text, str) else text
    return [f"{line}:{column}: {problem}" for (line, column), problem in parse(content).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("1.5", 1.5),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("'12'", "12"),
        ('"true"', "true"),
        ("two words", "two words"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    assert parse(f"key: {text}".encode()).data == {"key": value}


@pytest.mark.parametrize(
    "text", ["off", "on", "yes", "no", "y", "N", "Off", "12:30", "190:20:30", "2024-01-01", "1_000", "0b1", "="]
)
def test_special_words_of_yaml_1_1_are_text(text: str) -> None:
    assert parse(f"key: {text}\n{text}: 1".encode()).data == {"key": text, text: 1}


@given(JSON)
def test_json_is_parsed_as_json(data: Any) -> None:
    marked = parse(json.dumps(data).encode())

    assert marked.problems == []
    assert marked.data == data


@pytest.mark.parametrize("length", [1020, 1030, 20_000])
def test_keys_of_json_may_be_long(length: int) -> None:
    data = {"stages": [{"k" * length: 1, '"' * length: [], "after": {"k" * length: {}}}]}

    marked = parse(json.dumps(data).encode())

    assert (marked.problems, marked.data) == ([], data)


def test_every_value_and_key_has_its_position() -> None:
    marked = parse(b"stages:\n  - use: read\n    sizes: [1, 22]\nempty:\n")

    assert marked.values == {
        (): (1, 1),
        ("stages",): (2, 3),
        ("stages", 0): (2, 5),
        ("stages", 0, "use"): (2, 10),
        ("stages", 0, "sizes"): (3, 12),
        ("stages", 0, "sizes", 0): (3, 13),
        ("stages", 0, "sizes", 1): (3, 16),
        ("empty",): (4, 7),
    }
    assert marked.keys == {
        ("stages",): (1, 1),
        ("stages", 0, "use"): (2, 5),
        ("stages", 0, "sizes"): (3, 5),
        ("empty",): (4, 1),
    }


def test_a_byte_order_mark_and_crlf_do_not_shift_positions() -> None:
    marked = parse("\ufeffone: 1\r\ntwo: 2\r\n".encode())

    assert marked.data == {"one": 1, "two": 2}
    assert marked.keys == {("one",): (1, 1), ("two",): (2, 1)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "3:1: 'a' is given twice, first on line 1; remove one"),
        ("a: &x 1", "1:4: '&x' is an anchor, which can't be in a graph file; remove it, or use quotes"),
        ("a: *x", "1:4: '*x' is an alias, which can't be in a graph file; write it out, or put it in quotes"),
        ("<<: {a: 1}", "1:1: a merge key ('<<') can't be in a graph file; write the options out"),
        ("a: !!int 1", "1:4: 'tag:yaml.org,2002:int' is a tag, which can't be in a graph file; remove it, or use quotes"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "1:4: 'tag:yaml.org,2002:python/object/apply:os.system' is a tag, which can't be in a graph file; "
            "remove it, or use quotes",
        ),
        ("a: ! 1", "1:4: '!' is a tag, which can't be in a graph file; remove it, or use quotes"),
        ("? [a, b]\n: 1", "1:3: a key must be text; put it in quotes"),
        ("a: 1\n---\nb: 2", "2:1: a second document starts here; keep one per file"),
        ("a: 1\n\tb: 2", "2:1: a tab can't indent; use spaces"),
        ("a: b: c", "1:5: this ':' can't be here; fix the indentation, or quote text that contains ': '"),
        ("a: 1\nbcd\ne: 1", "2:1: a ':' is missing after this; write `key: value`"),
        ("a: 1\n  b: 2", "2:4: this ':' can't be here; fix the indentation, or quote text that contains ': '"),
        ("a: 'b\nc: 1", "1:4: this quote is never closed; close it"),
        ('a: "C:\\photos"', "1:8: in double quotes a backslash starts an escape; use single quotes"),
        ('a: "C:\\Users"', "1:9: in double quotes a backslash starts an escape; use single quotes"),
        ('a: "\\UFFFFFFFF"', "1:7: this number is out of range; put text with a backslash in single quotes"),
        ("a:\n  - b\n  c: 1", "3:3: this does not match what is above it; fix the indentation"),
        ("a: - b", "1:4: this '-' can't be here; start a list on a new line, and fix the indentation"),
        ("a: [1,", "1:7: the text ends inside a bracket; close it"),
        ("a: {b: 1", "1:9: the text ends inside a bracket; close it"),
        ("a: *.tif", "1:5: a value that starts with '*' or '&' must be in quotes"),
        ("a: [1, 2\nb: 3", "2:2: a bracket is not closed before this; close it, or put the text in quotes"),
        ("a: @b", "1:4: this character can't start a value; put the value in quotes"),
        ("a: b\0", "1:5: the character '\\x00' can't be in YAML; remove it"),
        ('a: "b\\0"', "1:4: '\\x00' is not a valid character; remove it"),
        ('a: "\\ud800"', "1:4: '\\ud800' is not a valid character; remove it"),
        ("é: 1\nà: ü\x01", "2:5: the character '\\x01' can't be in YAML; remove it"),
        ("é: 1\nà: ü".encode() + b"\xff", "2:5: this is not UTF-8; save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "1:1: this is not UTF-8; save the file as UTF-8"),
        ("%YAML 3.0\n---\na: 1", "1:1: this is not YAML (found incompatible YAML document (version 1.* is required)); "
         "fix the quotes or the indentation"),
    ],
)  # fmt: skip
def test_an_error_is_reported_with_its_position(text: str | bytes, problem: str) -> None:
    assert problems(text)[0] == problem


def test_all_errors_are_reported_together() -> None:
    found = problems("a: &x 1\nb: *x\na: !!str 2\n")

    assert [problem.split(":")[0] for problem in found] == ["1", "2", "3", "3"]


def test_size_and_depth_are_limited() -> None:
    assert parse(b"#" * MAX_BYTES).problems == []
    assert problems(b"#" * (MAX_BYTES + 1)) == ["1:1: this is larger than 100 kB; is it a graph file?"]
    assert parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH).problems == []
    too_deep = "1:21: more than 20 nested lists and mappings; use fewer"
    assert problems(b"[" * (MAX_DEPTH + 1)) == [too_deep]


MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 9))
ALIASES = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))


@pytest.mark.parametrize(
    "text",
    [MERGES, ALIASES, "[" * MAX_BYTES, "{a: " * 25_000, "- " * 50_000, "? " * 50_000, "k: *a\n" * 16_000, "a:\n" * 33_000],
    ids=["merges", "aliases", "brackets", "braces", "lists", "keys", "errors", "duplicates"],
)
def test_a_yaml_bomb_is_rejected_quickly(text: str) -> None:
    start = process_time()

    assert problems(text)

    assert process_time() - start < 10  # about 1 s; PyYAML's own loader does not return from the first one


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_parsed_or_rejected(content: bytes) -> None:
    marked = parse(content)

    assert marked.problems or json.dumps(marked.data)


@given(st.lists(st.sampled_from(TOKENS)).map("".join))
def test_any_mixture_of_yaml_tokens_is_parsed_or_rejected(text: str) -> None:
    marked = parse(text.encode())

    assert marked.problems or json.dumps(marked.data)
    assert all(line >= 1 and column >= 1 for (line, column), _ in marked.problems)
