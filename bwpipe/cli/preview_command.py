"""The command `bwpipe preview`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from bwpipe.cli.options import Set

SUFFIXES = (".jpg", ".jpeg", ".png")


def preview(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A film, a picture, a folder of them, or a pattern of numbered frames.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="SHEET",
            help="The contact sheet, .jpg or .png; by default, FILE's stem with -preview.jpg.",
        ),
    ] = None,
    *,
    count: Annotated[int, typer.Option("--frames", min=1, max=100, help="Number of frames and pictures to show.")] = 8,
    doubtful: Annotated[
        bool, typer.Option("--doubtful", help="Colour eight times as many, and show those of which the network is least sure.")
    ] = False,
    graph_file: Annotated[
        Path | None, typer.Option("--graph", metavar="GRAPH", help="A graph file; by default, the one of `bwpipe init`.")
    ] = None,
    options: Set = None,
) -> None:
    """Write a contact sheet of evenly spaced frames, grey and coloured side by side: a preview of a run."""
    from bwpipe.core.atomic_file import check_writable, write_output_bytes
    from bwpipe.core.inputs import expand_user
    from bwpipe.errors import UsageError
    from bwpipe.sequence.numbering import names_frames

    folder = expand_user(file).is_dir()
    target = output or Path(f"{expand_user(file).absolute().name if folder else file.stem}-preview.jpg")
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{target}: a contact sheet must be a .jpg or .png file; choose another name")
    place = check_writable(target)
    frames = names_frames(str(file))
    if not (folder or expand_user(file).is_file() or frames):
        raise UsageError(f"there is no file or folder {file}; give a film, a picture, or a folder of them")
    if folder and Path(os.path.realpath(place)).is_relative_to(os.path.realpath(expand_user(file))):
        raise UsageError(f"{target} would be among the pictures that are read; choose another folder for the contact sheet")
    if place.exists() and not (frames or folder) and place.samefile(expand_user(file)):
        raise UsageError(f"{target} would overwrite the input; choose another name for the contact sheet")

    import cv2

    from bwpipe.core.console import Progress, print_lines
    from bwpipe.core.context import RunContext
    from bwpipe.graph.document import Override
    from bwpipe.graph.graph import read_graph
    from bwpipe.graph.templates import template
    from bwpipe.tools.preview import preview as make_preview
    from bwpipe.tools.preview import sheet

    progress = Progress(None, quiet=True)
    graph = read_graph(graph_file or template("pipeline.yaml"), [*(options or []), Override("read.path", str(file), "FILE")])
    image = sheet(make_preview(graph, count, RunContext(say=progress.say), doubtful=doubtful))
    data = cv2.imencode(target.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    write_output_bytes(place, data)
    print_lines(str(target))
