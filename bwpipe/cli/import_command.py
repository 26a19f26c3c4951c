"""The command `bwpipe import`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bwpipe.errors import UsageError


def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A file of PyTorch (.pth, .pt, .bin), safetensors or ONNX.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="The checkpoint to write, ending in .safetensors.")
    ],
    *,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The network that the weights are for; by default it is recognised.", show_default=False
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="The terms of the weights, if they differ from their project's.", show_default=False),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="Set an option of the network; may be repeated."),
    ] = None,
    plugin_folders: Annotated[
        list[Path] | None,
        typer.Option("--plugins", metavar="FOLDER", help="A folder of plug-ins, such as the network's; may be repeated."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")] = False,
) -> None:
    """Make a checkpoint of weights that others have published, and a card beside it. No code in the file is run."""
    from bwpipe.core import plugins
    from bwpipe.core.console import print_lines
    from bwpipe.core.inputs import expand_user

    chosen = dict(map(_option, options or []))
    plugins.load(expand_user(folder) for folder in plugin_folders or ())

    from bwpipe.nn.foreign.importer import import_network

    imported = import_network(expand_user(file), expand_user(output), network=network, options=chosen, licence=licence)
    if quiet:
        return
    checkpoint = imported.checkpoint
    print_lines(f"{imported.path}: weights of {checkpoint.network}; terms: {checkpoint.licence}")
    print_lines(f"its card is {imported.card}; use it with `bwpipe colorize IN... -o OUT --model {imported.path}`")


def _option(text: str) -> tuple[str, Any]:
    """An option's name and value. Raises UsageError."""
    from bwpipe.graph.yaml_loader import parse

    name, equals, value = text.partition("=")
    marked = parse(value.encode("utf-8", "surrogatepass"))
    if not (name and equals):
        raise UsageError(f"--set {text}: write OPTION=VALUE")
    if marked.problems:
        raise UsageError(f"--set {text}: the value is not YAML; put it in quotes")
    return name, marked.data
