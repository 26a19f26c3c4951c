"""The reference pages generated from the code: graph files, stages, networks, losses, and JSON outputs.

The page of commands, and the command that writes all pages, are in `bwpipe.cli.reference`: `tools` must not import `cli`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import cleandoc
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bwpipe.core import plugins
from bwpipe.core.first_pass import TwoPassMap
from bwpipe.core.options import options_of
from bwpipe.core.stage import FILMS_ONLY, PICTURES_ONLY, BatchMap, Gather, Map, NoEffect, Sink, Source, Stage, UnitMap, stages
from bwpipe.graph.graph import Entry, Settings
from bwpipe.losses import losses
from bwpipe.metrics.descriptions import FIGURES, FILM_FIGURES
from bwpipe.nn.network import networks
from bwpipe.tools.describe import ports
from bwpipe.tools.json_fields import CHECK, INFO, LISTED, REPORT, RESULT, SCORE, VERIFY

NOTE = "<!-- Generated from the code by `make docs`; do not edit. -->"
_SHAPES = (Source, Map, BatchMap, TwoPassMap, UnitMap, Gather, Sink, Stage)
_NO_EFFECT = get_args(NoEffect[int])[1]
_FITS = {"rgb": "networks that produce RGB", "chroma": "any network", "bins": "networks that produce bins"}


def pages() -> dict[str, str]:
    """All pages as Markdown, by file name, without plug-ins."""
    plugins.load()
    return {
        "graph-file.md": page("Graph files", graph_file()),
        "stages.md": page("Stages", stage_sections()),
        "networks.md": page("Networks", network_sections()),
        "losses.md": page("Losses", loss_sections()),
        "json.md": page("JSON outputs", json_sections()),
    }


def page(title: str, lines: Iterable[str]) -> str:
    """A page: a title and blocks of text, separated by empty lines."""
    return "\n\n".join([NOTE, f"# {title}", *lines]) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    cells = [header, ["---"] * len(header), *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def cell(text: str) -> str:
    """A text as a table cell: on one line, with `|` escaped."""
    return " ".join(text.split()).replace("|", "\\|")


def option_table(model: type[BaseModel], *, recipe: bool = False) -> str:
    """The options of a model, each followed by its nested ones; with `recipe` also whether each is part of the recipe."""
    header = ["option", "type", "default", *(["in recipe"] if recipe else []), "description"]
    rows = []
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for option in options_of(model):
        field = fields[option.name.partition(".")[0]]
        default = "required" if option.default is None else f"`{option.default}`"
        if option.name in fields and _varies(field):
            default = "depends on the machine"
        in_recipe = [_in_recipe(field)] if recipe else []
        rows.append([f"`{option.name}`", option.kind, default, *in_recipe, option.text])
    return table(header, rows) if rows else "It has no options."


def _in_recipe(field: FieldInfo) -> str:
    """Whether an option is part of the recipe, and of which units."""
    marks = {_NO_EFFECT: "no", FILMS_ONLY: "of films", PICTURES_ONLY: "of pictures"}
    return next((word for mark, word in marks.items() if mark in field.metadata), "yes")


def _varies(field: FieldInfo) -> bool:
    """Whether a default is computed and thus may differ between machines."""
    return field.default_factory is not None and field.default_factory not in (dict, list)


def about(cls: type) -> str:
    """The docstring of a class."""
    return cleandoc(cls.__doc__ or "")


def graph_file() -> Iterator[str]:
    """The keys of a graph file."""
    yield "Top-level keys of a graph file:"
    yield option_table(Settings)
    yield "Keys of each entry of `stages`; every other key is an option of the stage ([stages](stages.md)):"
    yield option_table(Entry)


def stage_sections() -> Iterator[str]:
    """All built-in stages."""
    yield (
        'Files are redone when an option that is "in recipe" changes. Others do not affect the result; if one of them names '
        "a file that does, such as weights, the content of that file is in the recipe. [Graph files](graph-file.md) lists the "
        "keys that are not options of a stage. `bwpipe stages NAME` prints the same text."
    )
    names = [name for name in stages if _built_in(stages[name])]
    yield ", ".join(f"[{name}](#{name})" for name in names)
    for name in names:
        cls = stages[name]
        shape = next(base for base in cls.__mro__ if base in _SHAPES)
        yield f"## {name}"
        yield f"`{ports(cls)}`, a `{shape.__name__}`, revision {cls.revision}."
        yield about(cls)
        yield option_table(cls, recipe=True)


def network_sections() -> Iterator[str]:
    """All built-in networks."""
    yield "`fit.model` and `fit.model_options` choose a network for training, `colorize.model` names one or a checkpoint."
    for name in networks:
        cls = networks[name]
        if _built_in(cls):
            yield f"## {name}"
            yield f"Produces {cls.produces}."
            yield about(cls)
            if cls.published:
                yield "\n".join(f"- {what}: {text}" for what, text in cls.published.lines().items())
            yield option_table(cls.Options)


def loss_sections() -> Iterator[str]:
    """All built-in losses."""
    yield (
        "Losses are named in `fit.losses`, each with its weight, or with `weight` and its own options. "
        "A loss that does not fit the network is rejected when the graph is read."
    )
    yield "```yaml\n- use: fit\n  model: unet\n  losses: {chroma_bins: {weight: 1, rebalance: 0.4}, colourfulness: 4}\n```"
    for name in losses:
        cls = losses[name]
        if _built_in(cls):
            yield f"## {name}"
            views = "one view" if cls.views == 1 else f"{cls.views} views"
            yield f"For {_FITS[cls.needs]}. It compares {views} of each photograph."
            yield about(cls)
            yield option_table(cls.Options)


def json_sections() -> Iterator[str]:
    """The JSON of `report.jsonl`, `bwpipe score --json` and `bwpipe verify --json`."""
    yield (
        "In a path, `[]` stands for each item of a list and `*` for each name that depends on the data, such as that of a file "
        "or stage. Any version may add keys; removals and changes of meaning are listed in the changelog."
    )
    yield "## report.jsonl"
    yield (
        "Every run writes a new `.bwpipe/report.jsonl` into each output folder: one JSON object per line. "
        "`event` is the type of the line."
    )
    for event, (text, fields) in REPORT.items():
        yield f'### "event": "{event}"'
        yield text
        yield _fields(fields)
    yield "## run --json"
    yield "`bwpipe run ... --json` and `bwpipe colorize ... --json` write one object to standard output at the end."
    yield _fields(RESULT)
    yield "## check --json"
    yield "`bwpipe check ... --json` and `bwpipe colorize ... --dry-run --json` write one object to standard output."
    yield _fields(CHECK)
    yield "## info --json"
    yield "`bwpipe info FILE --json` writes one object to standard output."
    yield _fields(INFO)
    yield "## stages --json"
    yield (
        "`bwpipe stages --json`, `bwpipe models --json` and `bwpipe losses --json` write one object to standard output: what "
        "each is, by its name. With a name it has these keys:"
    )
    yield _fields(LISTED)
    yield "## score --json"
    yield "`bwpipe score ... --json FILE` writes one object; `-` stands for standard output."
    yield _fields(SCORE)
    yield "The metrics of photographs:"
    yield _fields(FIGURES)
    yield "The metrics of films; smaller means more stable:"
    yield _fields(FILM_FIGURES)
    yield "## verify --json"
    yield "`bwpipe verify ... --json FILE` writes one object; `-` stands for standard output."
    yield _fields(VERIFY)


def _fields(texts: Mapping[str, str]) -> str:
    return table(["key", "meaning"], ([f"`{name}`", text] for name, text in texts.items()))


def _built_in(cls: type) -> bool:
    """Whether a class is built in; installed packages may register others."""
    return cls.__module__.startswith("bwpipe.")
