"""Generate the reference pages: `python -m bwpipe.cli.reference docs/reference`, or `make docs`, which also writes the schema.

It is in `cli` and not in `tools` because it describes the commands: no other room may import them.
"""

import sys
from collections.abc import Callable, Iterator
from inspect import Parameter, cleandoc, signature
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from bwpipe.cli.main import app
from bwpipe.tools import reference

_WORDS = {str: "text", int: "integer", float: "number", Path: "path", bool: "flag"}
_EXIT_CODES = """\
## Exit codes

| code | meaning |
| --- | --- |
| 0 | Everything is done, possibly by earlier runs. |
| 1 | Some files failed, or `verify` found a difference; the others are done. |
| 2 | The command, the graph or its environment is wrong, nothing was written; for `verify`: a file can't be read. |
| 3 | The run could not continue: disk full, output folder gone, out of memory, a device failed. |
| 130, 143 | Interrupted by SIGINT or SIGTERM. |

After 1, 3, 130 and 143 the same command resumes where it stopped."""


def pages() -> dict[str, str]:
    """All generated pages as Markdown, by file name."""
    return {"commands.md": reference.page("Commands", command_sections()), **reference.pages()}


def command_sections() -> Iterator[str]:
    """Every command with its arguments and options."""
    yield "Every command also takes `--help`; `bwpipe --version` prints the version."
    callbacks = {
        _name(each.name, each.callback): each.callback for each in app.registered_commands if each.callback and not each.hidden
    }
    yield ", ".join(f"[{name}](#bwpipe-{name})" for name in sorted(callbacks))
    for name, callback in sorted(callbacks.items()):
        yield f"## bwpipe {name}"
        yield cleandoc(callback.__doc__ or "")
        rows = list(_parameters(callback))
        if rows:
            yield reference.table(["argument or option", "type", "default", "description"], rows)
    yield _EXIT_CODES


def _name(explicit: str | None, callback: Callable[..., Any]) -> str:
    return explicit or callback.__name__.replace("_", "-")


def _parameters(callback: Callable[..., Any]) -> Iterator[list[str]]:
    """The name, type, default and description of each argument and option of a command."""
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in signature(callback).parameters.items():
        kind, *marks = get_args(hints[name])
        info = next(mark for mark in marks if isinstance(mark, ArgumentInfo | OptionInfo))
        yield [_display_name(name, info, kind), _type(kind, info), _default(parameter.default), info.help or ""]


def _display_name(name: str, info: ArgumentInfo | OptionInfo, kind: Any) -> str:
    if isinstance(info, ArgumentInfo):
        return f"`{info.metavar or name.upper()}`"
    first = [info.default] if isinstance(info.default, str) else []  # typer keeps the first name here if hints are annotated
    names = [*first, *(info.param_decls or ())] or [f"--{name.replace('_', '-')}"]
    value = "" if kind is bool else f" {info.metavar or _type(kind, info).split(',')[0].upper()}"
    return f"`{', '.join(names)}{'' if get_origin(_without_none(kind)) is Literal else value}`"


def _without_none(kind: Any) -> Any:
    """A type without None."""
    inner = [each for each in get_args(kind) if each is not NoneType]
    return inner[0] if NoneType in get_args(kind) else kind


def _type(kind: Any, info: ArgumentInfo | OptionInfo) -> str:
    """The type of a value, in words."""
    kind = _without_none(kind)
    if get_origin(kind) is Literal:
        return " or ".join(f"`{word}`" for word in get_args(kind))
    if get_origin(kind) is list:
        return f"{_type(get_args(kind)[0], info)}, repeatable"
    ends = " to ".join(f"{end:g}" for end in (info.min, info.max) if end is not None)
    limits = "" if not ends else f", {'' if info.max is not None else 'at least '}{ends}"
    return f"{_WORDS[kind]}{limits}"


def _default(value: Any) -> str:
    if value is Parameter.empty:
        return "required"
    return "" if value is None or value is False else f"`{value}`"


def write(folder: Path) -> list[Path]:
    """Write the pages into an existing folder. Raises OSError."""
    written = []
    for name, text in pages().items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for page in write(Path(sys.argv[1])):
        print(page)
