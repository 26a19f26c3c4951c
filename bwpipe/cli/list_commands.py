"""The listing commands: `bwpipe stages`, `bwpipe models`, `bwpipe losses`."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any

import typer

from bwpipe.cli.completion import complete_loss, complete_network, complete_stage
from bwpipe.cli.options import Json
from bwpipe.errors import UsageError

_HELP = "Describe this one, with its options."
StageName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help=_HELP, show_default=False, autocompletion=complete_stage)
]
NetworkName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help=_HELP, show_default=False, autocompletion=complete_network)
]
LossName = Annotated[str | None, typer.Argument(metavar="[NAME]", help=_HELP, show_default=False, autocompletion=complete_loss)]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugins", metavar="FOLDER", help="A folder of plug-ins, as in a graph; may be repeated."),
]


def stages(name: StageName = None, plugins: Plugins = None, *, json_output: Json = False) -> None:
    """List the stages that a graph can use, or describe one."""
    from bwpipe.core.stage import stages as registry
    from bwpipe.tools.describe import describe_stage

    _list(registry, name, describe_stage, plugins or [], json_output=json_output)


def models(name: NetworkName = None, plugins: Plugins = None, *, json_output: Json = False) -> None:
    """List the networks, or describe one."""
    from bwpipe.nn.network import networks as registry
    from bwpipe.tools.describe import describe_network

    _list(registry, name, describe_network, plugins or [], json_output=json_output)


def losses(name: LossName = None, plugins: Plugins = None, *, json_output: Json = False) -> None:
    """List the losses that `fit` can minimise, or describe one."""
    import bwpipe.losses.combined  # noqa: F401 (importing each loss registers it)
    from bwpipe.losses.base import losses as registry
    from bwpipe.tools.describe import describe_loss

    _list(registry, name, describe_loss, plugins or [], json_output=json_output)


def _list(
    registry: Any, name: str | None, describe: Callable[[Any], Iterable[str]], folders: list[Path], *, json_output: bool
) -> None:
    from bwpipe.core import plugins
    from bwpipe.core.console import print_lines
    from bwpipe.core.inputs import expand_user
    from bwpipe.core.registry import UnknownNameError

    plugins.load(expand_user(folder) for folder in folders)
    try:
        if json_output:
            listed = _to_json(registry[name]) if name else {each: first_line(registry[each]) for each in registry}
            print_lines(json.dumps(listed, indent=2))
            return
        if name:
            lines = describe(registry[name])
        else:
            width = max(map(len, registry), default=0)
            lines = [f"{each:{width}}  {first_line(registry[each])}" for each in registry]
    except UnknownNameError as error:
        raise UsageError(str(error)) from None
    for line in lines:
        print_lines(line)


def _to_json(cls: Any) -> dict[str, Any]:
    """A stage, a network or a loss with its options; `bwpipe.tools.json_fields.LISTED` says what each field is."""
    from bwpipe.core.options import options_of

    options = options_of(getattr(cls, "Options", cls))
    return {"name": cls.registered, "about": cleandoc(cls.__doc__ or ""), "options": [asdict(option) for option in options]}


def first_line(cls: type) -> str:
    """The first line of a class's docstring."""
    return (cls.__doc__ or "").strip().partition("\n")[0]
