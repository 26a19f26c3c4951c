"""What a value has to be, in words, from its JSON Schema."""

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

_FORMATS = {
    "path": "a path",
    "file-path": "the path of a file that exists",
    "directory-path": "the path of a folder that exists",
    "stage": "the name of a stage",
    "id": "a name without spaces and dots",
}
_TRUTHS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def expected(schema: Schema) -> str:
    """What a value has to be: "an integer of at least 1", "'auto' or 'off'", "a path".

    Args:
        schema: Of the value; its references are resolved among its own `$defs`.
    """
    return _phrase(schema, schema.get("$defs", {}))


def shown(value: Any, longest: int = 60) -> str:
    """A value as it would stand in YAML, cut where it is longer: "'four'", "true", "[1, 2]", "nothing"."""
    if value is None:
        return "nothing"
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def remedy(schema: Schema, value: Any) -> str:
    """What to do about a value that is not what the schema says, to be put after the complaint; empty if that is plain."""
    branches = list(_branches(schema, schema.get("$defs", {})))
    kinds = {branch.get("type") for branch in branches if not _fixed(branch)}
    if isinstance(value, str):
        if "boolean" in kinds and value.lower() in _TRUTHS:
            return f"; write {_TRUTHS[value.lower()]}"
        words = [word for branch in branches for word in _fixed(branch) if isinstance(word, str)]
        if close := get_close_matches(value, words, n=1):
            return f"; did you mean {close[0]!r}?"
    own = {"string"} if isinstance(value, str) else {"integer", "number"}
    if "array" in kinds and isinstance(value, str | int | float) and not kinds & own:
        return f"; write [{value}]"
    if "string" in kinds and isinstance(value, int | float):
        return "; put it into quotes"
    return ""


def resolved(schema: Schema, defs: Schema) -> Schema:
    """The schema itself, where it only refers to one of `defs`."""
    while "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
    return schema


def _branches(schema: Schema, defs: Schema) -> Iterator[Schema]:
    """The schemas of which one must hold."""
    schema = resolved(schema, defs)
    if not (branches := schema.get("anyOf") or schema.get("oneOf")):
        yield schema
    for branch in branches or ():
        yield from _branches(branch, defs)


def _fixed(schema: Schema) -> list[Any]:
    """The values of which it must be one; none if it has a kind."""
    return [schema["const"]] if "const" in schema else schema.get("enum", [])


def _phrase(schema: Schema, defs: Schema) -> str:
    branches = _branches(schema, defs)
    phrases = [
        text for branch in branches for text in (map(shown, _fixed(branch)) if _fixed(branch) else [_kind(branch, defs)])
    ]
    *most, last = dict.fromkeys(phrases)
    return f"{', '.join(most)} or {last}" if most else last


def _kind(schema: Schema, defs: Schema) -> str:
    match kind := schema.get("type"):
        case "integer" | "number":
            return f"{'an' if kind == 'integer' else 'a'} {kind}{_range(schema)}"
        case "string":
            return _text(schema)
        case "array":
            return _list(schema, defs)
        case "object":
            inner = schema.get("additionalProperties")
            return "`key: value` pairs" + (f", each value {_phrase(inner, defs)}" if inner and inner is not True else "")
    return {"boolean": "true or false", "null": "nothing"}.get(str(kind), "something else")


def _range(schema: Schema) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f" from {schema['minimum']} to {schema['maximum']}"
    words = {"minimum": "of at least", "exclusiveMinimum": "above", "maximum": "of at most", "exclusiveMaximum": "below"}
    parts = [f"{word} {schema[key]}" for key, word in words.items() if key in schema]
    return f" {' and '.join(parts)}" if parts else ""


def _text(schema: Schema) -> str:
    if "format" in schema:
        return _FORMATS.get(schema["format"], f"a {schema['format']}")
    if "pattern" in schema:
        return f"text that matches {schema['pattern']}"
    return "text that is not empty" if schema.get("minLength") else "text"


def _list(schema: Schema, defs: Schema) -> str:
    if inner := schema.get("prefixItems"):
        return f"a list of {len(inner)}: {', '.join(_phrase(each, defs) for each in inner)}"
    items = schema.get("items")
    return (
        "a list"
        + (" that is not empty" if schema.get("minItems") else "")
        + (f", each item {_phrase(items, defs)}" if items else "")
    )
