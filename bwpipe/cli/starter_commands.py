"""The commands that write something to start from: `bwpipe init`, `bwpipe schema`, `bwpipe samples`."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder to write to; created if missing.")] = Path(),
    *,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Write fine-tune.yaml instead, which trains the shipped network further.")
    ] = False,
    adapt: Annotated[
        bool, typer.Option("--adapt", help="Write adapt.yaml instead, which fits the shipped network to a few coloured stills.")
    ] = False,
    recipes: Annotated[
        bool, typer.Option("--recipes", help="Write the graphs by which the shipped weights were trained instead.")
    ] = False,
) -> None:
    """Write pipeline.yaml and train.yaml into a folder, and their schema for editors; existing graphs are never overwritten."""
    from bwpipe.core.console import print_lines
    from bwpipe.errors import UsageError
    from bwpipe.graph.json_schema import schema_text
    from bwpipe.graph.templates import ADAPT, FINE_TUNE, NAMES, SCHEMA, recipe_names, write_templates

    if finetune + adapt + recipes > 1:
        raise UsageError("--finetune, --adapt and --recipes write different graphs; give one of them at a time")
    names = [FINE_TUNE] if finetune else [ADAPT] if adapt else recipe_names() if recipes else NAMES
    for path in write_templates(folder, names, {SCHEMA: schema_text()}):
        print_lines(str(path))


def schema(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write it to this file instead; an existing one is replaced."),
    ] = None,
) -> None:
    """Print the JSON Schema of graph files, for editors, with the stages of the plug-ins that are installed."""
    from bwpipe.core.atomic_file import check_writable, write_output_bytes
    from bwpipe.core.console import print_lines
    from bwpipe.graph.json_schema import schema_text

    text = schema_text()
    if output is None:
        print_lines(text.rstrip("\n"))
        return
    write_output_bytes(check_writable(output), text.encode())
    print_lines(str(output))


def samples(folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder to write to.")] = Path("samples")) -> None:
    """Write black-and-white samples: scikit-image's photographs, and a five-second film with sound."""
    from bwpipe.core.console import print_lines
    from bwpipe.tools.samples import write_samples

    for path in write_samples(folder):
        print_lines(str(path))
