"""The command `bwpipe preview`."""

from pathlib import Path
from typing import Annotated

import typer

SUFFIXES = (".jpg", ".jpeg", ".png")


def preview(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A film, a picture, or a pattern of numbered frames.")],
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
    count: Annotated[int, typer.Option("--frames", min=1, max=100, help="Number of frames to show.")] = 8,
    graph_file: Annotated[
        Path | None, typer.Option("--graph", metavar="GRAPH", help="A graph file; by default, the one of `bwpipe init`.")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STAGE.OPTION=VALUE", help="Override an option of the graph; may be repeated."),
    ] = None,
) -> None:
    """Write a contact sheet of evenly spaced frames, grey and coloured side by side: a preview of a run."""
    from bwpipe.core.atomic_file import check_writable, write_output_bytes
    from bwpipe.core.inputs import expand_user
    from bwpipe.errors import UsageError
    from bwpipe.sequence.numbering import names_frames

    target = output or Path(f"{file.stem}-preview.jpg")
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{target}: a contact sheet must be a .jpg or .png file; choose another name")
    place = check_writable(target)
    frames = names_frames(str(file))
    if not (expand_user(file).is_file() or frames):
        raise UsageError(f"there is no file {file}; give a film or a picture")
    if place.exists() and not frames and place.samefile(expand_user(file)):
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
    image = sheet(make_preview(graph, count, RunContext(say=progress.say)))
    data = cv2.imencode(target.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    write_output_bytes(place, data)
    print_lines(str(target))
