"""The command `bwpipe preview`."""

import json
from pathlib import Path
from typing import Annotated

import typer

SUFFIXES = (".jpg", ".jpeg", ".png")


def preview(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A film or a picture.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="SHEET", help="The sheet, .jpg or .png; FILE's name with -preview.jpg by default."
        ),
    ] = None,
    *,
    count: Annotated[int, typer.Option("--frames", min=1, max=100, help="How many frames to look at.")] = 8,
    graph_file: Annotated[
        Path | None, typer.Option("--graph", metavar="GRAPH", help="A graph file; that of `bwpipe init` by default.")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STAGE.OPTION=VALUE", help="Change an option of the graph; may be given several times."),
    ] = None,
) -> None:
    """Show evenly spaced frames in grey and coloured, side by side, on one sheet: a look at what a run would make."""
    from bwpipe.core.atomic_file import check_writable, write_output_bytes
    from bwpipe.errors import UsageError

    target = output or Path(f"{file.stem}-preview.jpg")
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{target}: a sheet is a .jpg or .png file; give another name")
    check_writable(target)
    if not file.expanduser().is_file():
        raise UsageError(f"there is no file {file}; give a film or a picture")
    if target.exists() and target.samefile(file.expanduser()):
        raise UsageError(f"{target} would be written over the input; give another name for the sheet")

    import cv2

    from bwpipe.core.console import Progress
    from bwpipe.core.context import RunContext
    from bwpipe.graph.graph import read_graph
    from bwpipe.graph.templates import template
    from bwpipe.tools.preview import preview as make_preview
    from bwpipe.tools.preview import sheet

    progress = Progress(None, quiet=True)
    graph = read_graph(graph_file or template("pipeline.yaml"), [*(options or []), f"read.path={json.dumps(str(file))}"])
    shown = sheet(make_preview(graph, count, RunContext(say=progress.say)))
    data = cv2.imencode(target.suffix.lower(), cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))[1].tobytes()
    write_output_bytes(target.expanduser().absolute(), data)
    print(target)
