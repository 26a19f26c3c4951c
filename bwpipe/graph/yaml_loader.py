"""A YAML loader that records source positions and accepts only the subset of YAML that graph files need."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from bwpipe.core.options import Loc
from bwpipe.errors import UsageError

Mark: TypeAlias = tuple[int, int]
"""Line and column, from 1."""

MAX_BYTES = 100_000
"""Maximum document size: some thousand stages. PyYAML reads about 0.2 MB/s, so this takes under a second."""
MAX_DEPTH = 20
"""Maximum nesting of lists and mappings."""

_INVALID_CHARACTERS = re.compile("[\0\ud800-\udfff]")

_MESSAGES = {
    r"found character '\t'": "a tab can't indent; use spaces",
    "found character": "this character can't start a value; put the value in quotes",
    "mapping values are not allowed": "this ':' can't be here; fix the indentation, or quote text that contains ': '",
    "could not find expected ':'": "a ':' is missing after this; write `key: value`",
    "found unexpected end of stream": "this quote is never closed; close it",
    "found unknown escape": "in double quotes a backslash starts an escape; use single quotes",
    "expected escape sequence": "in double quotes a backslash starts an escape; use single quotes",
    "expected <block end>": "this does not match what is above it; fix the indentation",
    "sequence entries are not allowed": "this '-' can't be here; start a list on a new line, and fix the indentation",
    "expected alphabetic or numeric": "a value that starts with '*' or '&' must be in quotes",
    "'<stream end>'": "the text ends inside a bracket; close it",
    "expected ',' or": "a bracket is not closed before this; close it, or put the text in quotes",
}
"""PyYAML's messages, or their beginnings, and messages that say what to do."""
_REPORTED_LATE = ("could not find expected ':'", "found unexpected end of stream")
"""Problems that PyYAML reports after their cause: the position of the cause is shown instead."""


class ConfigError(UsageError):
    """A graph or an override is invalid: one line per error, `file:line:column: what, and what to do`."""


@dataclass(slots=True)
class Marked:
    """A parsed document with source positions.

    Attributes:
        data: None, bool, int, float, str, and lists and dicts of these; keys are str.
        values: The start of each value.
        keys: The start of the key of each value in a mapping.
        problems: The errors and their positions; `data` must not be used if there are any.
    """

    data: Any = None
    values: dict[Loc, Mark] = field(default_factory=dict)
    keys: dict[Loc, Mark] = field(default_factory=dict)
    problems: list[tuple[Mark, str]] = field(default_factory=list)


def parse(content: bytes) -> Marked:
    """Parse one YAML document. Never raises: errors are in `problems`.

    Plain scalars are resolved by `plain`. Rejected are anchors and aliases, merge keys and tags (graph files do not need
    them, and a few hundred bytes of nested merges keep PyYAML busy forever), duplicate keys, more than one document, and
    documents above the limits on size and depth. An empty document is None.
    """
    marked = Marked()
    try:
        marked.data = _Parser(_decoded(content), marked).document()
    except _Problem as problem:
        marked.problems.append((problem.mark, problem.text))
    return marked


class _Problem(Exception):
    """An error after which parsing can't continue."""

    def __init__(self, mark: Mark, text: str) -> None:
        super().__init__(text)
        self.mark = mark
        self.text = text


def _decoded(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise _Problem((1, 1), f"this is larger than {MAX_BYTES // 1000} kB; is it a graph file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", "replace")
        raise _Problem(_end(before), "this is not UTF-8; save the file as UTF-8") from None


def _end(text: str) -> Mark:
    return text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1


class _Loader(yaml.SafeLoader):
    """Takes a quoted key of any length in brackets, as JSON has them.

    YAML limits keys to 1,024 characters, so that no parser need look far ahead for the colon.
    """

    def stale_possible_simple_keys(self) -> None:
        last = self.tokens_taken + len(self.tokens) - 1  # after a scalar its colon can only be the next token
        kept = {
            level: key
            for level, key in self.possible_simple_keys.items()
            if level and key.token_number == last and key.line == self.line
        }
        super().stale_possible_simple_keys()
        self.possible_simple_keys.update(kept)


class _Parser:
    """Builds data from PyYAML's events one by one, so that limits apply before memory grows."""

    def __init__(self, text: str, marked: Marked) -> None:
        self._marked = marked
        try:
            self._loader = _Loader(text)
        except yaml.reader.ReaderError as error:
            where = _end(text[: error.position])
            raise _Problem(where, f"the character {chr(int(error.character))!r} can't be in YAML; remove it") from None

    def document(self) -> Any:
        """The single document; None if there is none."""
        self._next()  # the stream's start
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            self._marked.values[()] = (1, 1)
            return None
        data = self._value(self._next(), ())
        self._next()  # the document's end
        if not isinstance(event := self._next(), yaml.StreamEndEvent):
            raise _Problem(_mark(event.start_mark), "a second document starts here; keep one per file")
        return data

    def _next(self) -> yaml.Event:
        try:
            event: yaml.Event = self._loader.get_event()  # type: ignore[no-untyped-call]
        except yaml.MarkedYAMLError as error:
            problem = str(error.problem)
            mark = error.context_mark if problem.startswith(_REPORTED_LATE) else None
            fallback = f"this is not YAML ({problem}); fix the quotes or the indentation"
            message = next((text for start, text in _MESSAGES.items() if start in problem), fallback)
            raise _Problem(_mark(mark or error.problem_mark), message) from None
        except (ValueError, OverflowError):  # PyYAML does not check the range of numbers in escapes and versions
            mark = self._loader.get_mark()
            raise _Problem(_mark(mark), "this number is out of range; put text with a backslash in single quotes") from None
        return event

    def _value(self, event: yaml.Event, loc: Loc) -> Any:
        self._marked.values.setdefault(loc, _mark(event.start_mark))
        self._reject_anchors_and_tags(event)
        match event:
            case yaml.ScalarEvent():
                text = self._text(event)
                return plain(text) if event.style is None else text
            case yaml.SequenceStartEvent():
                self._check_depth(event, loc)
                return self._list(loc)
            case yaml.MappingStartEvent():
                self._check_depth(event, loc)
                return self._mapping(loc)
        return None  # an alias, already reported

    def _list(self, loc: Loc) -> list[Any]:
        data: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            data.append(self._value(event, (*loc, len(data))))
        return data

    def _mapping(self, loc: Loc) -> dict[str, Any]:
        data: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event, loc)
            at = (*loc, key)
            if key in data:
                first = self._marked.keys[at][0]
                self._report(event, f"{key!r} is given twice, first on line {first}; remove one")
            self._marked.keys.setdefault(at, _mark(event.start_mark))
            data[key] = self._value(self._next(), at)
        return data

    def _key(self, event: yaml.Event, loc: Loc) -> str:
        """The key as written: JSON, and thus every option, has only text keys."""
        if not isinstance(event, yaml.ScalarEvent):
            self._report(event, "a key must be text; put it in quotes")
            self._value(event, (*loc, "?"))
            return ""
        self._reject_anchors_and_tags(event)
        if event.value == "<<" and event.style is None:
            self._report(event, "a merge key ('<<') can't be in a graph file; write the options out")
        return self._text(event)

    def _text(self, event: yaml.ScalarEvent) -> str:
        text: str = event.value
        with suppress(UnicodeDecodeError):  # JSON writes characters above U+FFFF as two escapes
            text = text.encode("utf-16", "surrogatepass").decode("utf-16")
        if bad := _INVALID_CHARACTERS.search(text):
            self._report(event, f"{bad[0]!r} is not a valid character; remove it")
        return text

    def _reject_anchors_and_tags(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._report(
                event, f"'*{event.anchor}' is an alias, which can't be in a graph file; write it out, or put it in quotes"
            )
        elif event.anchor is not None:
            self._report(event, f"'&{event.anchor}' is an anchor, which can't be in a graph file; remove it, or use quotes")
        elif event.tag is not None:
            self._report(event, f"{event.tag!r} is a tag, which can't be in a graph file; remove it, or use quotes")

    def _check_depth(self, event: yaml.Event, loc: Loc) -> None:
        if len(loc) >= MAX_DEPTH:
            raise _Problem(_mark(event.start_mark), f"more than {MAX_DEPTH} nested lists and mappings; use fewer")

    def _report(self, event: yaml.Event, text: str) -> None:
        self._marked.problems.append((_mark(event.start_mark), text))


def _mark(mark: Any) -> Mark:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBERS: tuple[tuple[re.Pattern[str], Callable[[str], int | float]], ...] = (
    (re.compile(r"[-+]?[0-9]{1,1000}"), int),
    (re.compile(r"0o[0-7]{1,1000}|0x[0-9a-fA-F]{1,1000}"), lambda text: int(text, 0)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda text: float(text.replace(".", ""))),
)


def plain(text: str) -> str | int | float | bool | None:
    """Resolve an unquoted scalar: `off`, `yes`, `12:30`, `1_000` and `2024-01-01` are text, and `1e-3` is a number."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return next((convert(text) for pattern, convert in _NUMBERS if pattern.fullmatch(text)), text)
