"""Validation of options against their model, with error messages for users, and their description."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from bwpipe.core.field_docs import describe, models_in
from bwpipe.core.registry import hint
from bwpipe.errors import UsageError

M = TypeVar("M", bound=BaseModel)
Loc: TypeAlias = tuple[str | int, ...]
"""The path to a value: keys of mappings and indices of lists."""
Schema: TypeAlias = Mapping[str, Any]
"""A JSON Schema."""

_RAISED_BY_VALIDATORS = ("value_error", "assertion_error")


@dataclass(frozen=True, slots=True)
class OptionProblem:
    """What is wrong with an option.

    Attributes:
        loc: The path to it, within the options.
        text: What is wrong, and what to do.
        key: Whether its name is wrong, not its value.
    """

    loc: Loc
    text: str
    key: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """An option, described for a reader.

    Attributes:
        name: As in a graph file.
        kind: The values it accepts, in words.
        default: As in a graph file; None if a value is required.
        text: Its description.
    """

    name: str
    kind: str
    default: str | None
    text: str


def build(model: type[M], options: Mapping[str, Any], *, of: str, words: tuple[str, ...] = ()) -> M | list[OptionProblem]:
    """Build the model, or return what is wrong with its options.

    Validation is strict, on JSON values, so nothing is coerced: "4" is not an integer, `1` is not true.

    Args:
        model: The class whose fields are the options.
        options: Their values.
        of: The owner of the options, for messages.
        words: Other keys that may appear among the options, for hints.
    """
    if wrong := [*_not_utf8(options), *_empty_paths(model, options)]:
        return wrong
    try:
        return model.model_validate_json(to_json(options), strict=True)
    except ValidationError as error:
        return list(dict.fromkeys(_translate(model, options, error, of, words)))  # a value can fail every branch of a union
    except UsageError as error:
        return [OptionProblem((), str(error))]


def _empty_paths(model: type[BaseModel], options: Any) -> Iterator[OptionProblem]:
    """Paths that are an empty text, which would stand for the current folder."""
    for loc, _ in _texts(options, "".__eq__):
        found, value, schema = _descend(options, _schema(model), loc)
        if found == loc and any(branch.get("format") == "path" for branch in _branches(schema, schema["$defs"])):
            yield OptionProblem(loc, f"{_label(loc)}: expected {expected(schema)}, not {format_value(value)}")


def _not_utf8(options: Any) -> Iterator[OptionProblem]:
    """Texts with bytes that are not UTF-8, as names of files may have: JSON can't hold them."""
    for loc, text in _texts(options, lambda text: text.encode(errors="ignore").decode() != text):
        remedy = "rename it, or for an input give the folder that it is in"
        yield OptionProblem(loc, f"{_label(loc)}: {text!r} has bytes that are not UTF-8; {remedy}")


def _texts(value: Any, chosen: Callable[[str], bool], loc: Loc = ()) -> Iterator[tuple[Loc, str]]:
    """The texts in options that are chosen, with their places."""
    if isinstance(value, str):
        yield from [(loc, value)] if chosen(value) else []
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _texts(inner, chosen, (*loc, key))


def ordered_fields(model: type[BaseModel]) -> list[str]:
    """The field names in display order: the model's own, then the inherited ones."""
    inherited = {name for base in model.__bases__ for name in getattr(base, "model_fields", ())}
    return sorted(model.model_fields, key=inherited.__contains__)


def options_of(model: type[BaseModel], *, outer: tuple[type[BaseModel], ...] = ()) -> list[Option]:
    """The options of a stage or a network in order, each followed by its nested ones: `damage`, `damage.chance`.

    A model within itself is not opened again; `outer` are those that the model is within.
    """
    describe(model)
    schema = _schema(model)
    found = []
    for name in ordered_fields(model):
        field = model.model_fields[name]
        inner = {**schema["properties"][field.alias or name], "$defs": schema["$defs"]}
        default = None if field.is_required() else _default(field.get_default(call_default_factory=True))
        key = field.alias or name
        found.append(Option(key, expected(inner), default, " ".join((field.description or "").split())))
        for within in models_in(field.annotation):
            if within not in (model, *outer):
                nested = options_of(within, outer=(model, *outer))
                found.extend(replace(option, name=f"{key}.{option.name}") for option in nested)
    return found


def _schema(model: type[BaseModel]) -> Schema:
    """A model's JSON Schema, which pydantic makes a reference if the model contains itself."""
    schema = model.model_json_schema()
    defs = schema.get("$defs", {})
    return {**resolved(schema, defs), "$defs": defs}


def _default(value: Any) -> str:
    return "as follows" if isinstance(value, BaseModel) else format_value(from_json(to_json(value)))


def _translate(
    model: type[BaseModel], options: Any, error: ValidationError, of: str, words: tuple[str, ...]
) -> Iterator[OptionProblem]:
    root = _schema(model)
    for each in error.errors():
        *path, last = each["loc"] or ("",)
        loc, value, schema = _descend(options, root, tuple(path))
        known = schema.get("properties", {})
        if each["type"] == "extra_forbidden" and len(loc) == len(path):
            owner, names = (repr(_label(loc)), [*known]) if loc else (of, [*known, *words])
            yield OptionProblem((*loc, last), f"unknown option {str(last)!r} of {owner}; {hint(str(last), names)}", key=True)
        elif each["type"] == "missing" and len(loc) == len(path) and last in known:
            inner = {**known[last], "$defs": root.get("$defs", {})}
            yield OptionProblem(loc, f"{_label((*loc, last))} is missing; give {expected(inner)}")
        else:
            loc, value, schema = _descend(options, root, each["loc"])
            yield OptionProblem(loc, _message(each, _label(loc), value, schema))


def _message(error: ErrorDetails, label: str, value: Any, schema: Schema) -> str:
    start = f"{label}: " if label else ""
    if error["type"] in _RAISED_BY_VALIDATORS:
        return f"{start}{error['ctx']['error']}"
    if "url" not in error:  # a PydanticCustomError, whose message was written by the author too
        return f"{start}{error['msg']}"
    return f"{start}expected {expected(schema)}, not {format_value(value)}{suggest(schema, value)}"


def _descend(value: Any, root: Schema, path: Loc) -> tuple[Loc, Any, Schema]:
    """Follow a path through a value and its schema as far as both go: pydantic's paths also name the branches of unions."""
    defs = root.get("$defs", {})
    schema = root
    for i, step in enumerate(path):
        inner = None
        if isinstance(value, Mapping) and step in value:
            inner = schema.get("properties", {}).get(step) or schema.get("additionalProperties")
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            inner = schema.get("items") or dict(enumerate(schema.get("prefixItems", ()))).get(step)
        if not isinstance(inner, Mapping):
            return path[:i], value, {**schema, "$defs": defs}
        value, schema = value[step], _non_null(inner, defs)
    return path, value, {**schema, "$defs": defs}


def _non_null(schema: Schema, defs: Schema) -> Schema:
    """The non-null branch of an optional value's schema: pydantic's paths do not name this branch."""
    schema = resolved(schema, defs)
    branches = [resolved(branch, defs) for branch in schema.get("anyOf", ()) if branch.get("type") != "null"]
    return branches[0] if len(branches) == 1 else schema


def _label(loc: Loc) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc).removeprefix(".")


_FORMATS = {
    "path": "a path",
    "file-path": "the path of a file that exists",
    "directory-path": "the path of a folder that exists",
    "stage": "the name of a stage",
    "id": "a name without spaces and dots",
}
_BOOLEAN_WORDS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def expected(schema: Schema) -> str:
    """The values that a schema accepts, in words: "an integer of at least 1", "'auto' or 'off'", "a path".

    Args:
        schema: The value's schema; its references are resolved in its own `$defs`.
    """
    return _phrase(schema, schema.get("$defs", {}))


def format_value(value: Any, longest: int = 60) -> str:
    """A value as written in YAML, truncated to `longest` characters: "'four'", "true", "[1, 2]", "nothing"."""
    if value is None:
        return "nothing"
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def suggest(schema: Schema, value: Any) -> str:
    """A suggestion to append to the message about an invalid value; empty if there is none."""
    branches = list(_branches(schema, schema.get("$defs", {})))
    kinds = {branch.get("type") for branch in branches if not _literals(branch)}
    if isinstance(value, str):
        if "boolean" in kinds and value.lower() in _BOOLEAN_WORDS:
            return f"; write {_BOOLEAN_WORDS[value.lower()]}"
        words = [word for branch in branches for word in _literals(branch) if isinstance(word, str)]
        if close := get_close_matches(value, words, n=1):
            return f"; did you mean {close[0]!r}?"
    if "string" in kinds and isinstance(value, int | float):
        return "; put it in quotes"
    own = {"string"} if isinstance(value, str) else {"integer", "number"}
    if "array" in kinds and isinstance(value, str | int | float) and not kinds & own:
        return f"; write [{value}]"
    return ""


def resolved(schema: Schema, defs: Schema) -> Schema:
    """The schema, with a reference to one of `defs` resolved."""
    while "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
    return schema


def _branches(schema: Schema, defs: Schema) -> Iterator[Schema]:
    """The alternatives of a schema."""
    schema = resolved(schema, defs)
    if not (branches := schema.get("anyOf") or schema.get("oneOf")):
        yield schema
    for branch in branches or ():
        yield from _branches(branch, defs)


def _literals(schema: Schema) -> list[Any]:
    """The literal values that a schema accepts; none if it accepts a type."""
    return [schema["const"]] if "const" in schema else schema.get("enum", [])


def _phrase(schema: Schema, defs: Schema) -> str:
    branches = _branches(schema, defs)
    phrases = [
        text
        for branch in branches
        for text in (map(format_value, _literals(branch)) if _literals(branch) else [_type_words(branch, defs)])
    ]
    *most, last = dict.fromkeys(phrases)
    return f"{', '.join(most)} or {last}" if most else last


def _type_words(schema: Schema, defs: Schema) -> str:
    match kind := schema.get("type"):
        case "integer" | "number":
            return f"{'an' if kind == 'integer' else 'a'} {kind}{_range_phrase(schema)}"
        case "string":
            return _string_phrase(schema)
        case "array":
            return _list_phrase(schema, defs)
        case "object":
            inner = schema.get("additionalProperties")
            return "`key: value` pairs" + (f", each value {_phrase(inner, defs)}" if inner and inner is not True else "")
    return {"boolean": "true or false", "null": "nothing"}.get(str(kind), "something else")


def _range_phrase(schema: Schema) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f" from {schema['minimum']} to {schema['maximum']}"
    words = {"minimum": "of at least", "exclusiveMinimum": "above", "maximum": "of at most", "exclusiveMaximum": "below"}
    parts = [f"{word} {schema[key]}" for key, word in words.items() if key in schema]
    return f" {' and '.join(parts)}" if parts else ""


def _string_phrase(schema: Schema) -> str:
    if "format" in schema:
        return _FORMATS.get(schema["format"], f"a {schema['format']}")
    if "pattern" in schema:
        return f"text that matches {schema['pattern']}"
    return "text that is not empty" if schema.get("minLength") else "text"


def _list_phrase(schema: Schema, defs: Schema) -> str:
    if inner := schema.get("prefixItems"):
        return f"a list of {len(inner)}: {', '.join(_phrase(each, defs) for each in inner)}"
    items = schema.get("items")
    return (
        "a list"
        + (" that is not empty" if schema.get("minItems") else "")
        + (f", each item {_phrase(items, defs)}" if items else "")
    )
