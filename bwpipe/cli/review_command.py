"""The commands `bwpipe report` and `bwpipe review`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bwpipe.cli.options import Set

if TYPE_CHECKING:
    from bwpipe.graph.graph import Graph
    from bwpipe.review.entries import Album

Out = Annotated[Path, typer.Argument(metavar="OUT", help="The output folder of a run.", show_default=False)]
Page = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="PAGE", help="The page; by default OUT/report.html.", show_default=False),
]


def report(folder: Out, output: Page = None) -> None:
    """Write a page to look at an output folder: before and after, most doubtful first. It is one file, without a server."""
    _write_report(folder, output)


def review(
    folder: Out,
    output: Page = None,
    *,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve a page, on this computer only, on which colours can be corrected.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port of that page; 0 for any free one.")] = 0,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    graph_file: Annotated[
        Path | None,
        typer.Option(
            "--graph", metavar="GRAPH", help="The graph that made OUT, if it was one of your own.", show_default=False
        ),
    ] = None,
    options: Set = None,
) -> None:
    """Look at an output folder, and with --serve correct its colours; without, it is the same as `bwpipe report`."""
    from bwpipe.errors import UsageError

    if not serve:
        if graph_file or options or port:
            raise UsageError("--graph, --set and --port are for --serve; add it, or omit them")
        page = _write_report(folder, output)
        if open_page:
            _open(page.as_uri())
        return
    if output:
        raise UsageError("--output is for a page without a server; omit it or --serve")
    _serve(folder, port, graph_file, options or [], open_page=open_page)


def _write_report(folder: Path, output: Path | None) -> Path:
    from bwpipe.core.atomic_file import check_writable
    from bwpipe.core.console import Progress, print_lines
    from bwpipe.errors import UsageError
    from bwpipe.review.entries import read_album
    from bwpipe.review.report import NAME, chosen, write_report

    album = read_album(folder)
    target = check_writable(output or album.folder / NAME)
    if target.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{output}: a page must be a .html file; choose another name")
    progress = Progress(len(chosen(album)), of="pictures")
    try:
        problems = write_report(album, target, progress.show)
    finally:
        progress.close()
    for problem in problems:
        progress.say(f"warning: {problem}")
    print_lines(str(output or folder / NAME))
    return target


def _serve(folder: Path, port: int, graph_file: Path | None, options: list[str], *, open_page: bool) -> None:
    from bwpipe.cli.signals import InterruptedRun
    from bwpipe.core.console import print_lines
    from bwpipe.errors import UsageError
    from bwpipe.graph.corrections import CORRECTIONS
    from bwpipe.review.corrections import Corrections
    from bwpipe.review.desk import Desk
    from bwpipe.review.entries import read_album
    from bwpipe.review.live_preview import LivePreview
    from bwpipe.review.rerun import Rerun
    from bwpipe.review.server import ReviewServer

    album = read_album(folder)
    graph, arguments, place = _graph(album, graph_file, options)
    corrections = Corrections(graph.corrections or album.folder / CORRECTIONS, album.folder)
    named = [] if graph.corrections else ["--set", f"corrections={corrections.folder}"]
    rerun = Rerun(lambda: [*arguments, *named], place)
    with LivePreview(graph) as preview:
        desk = Desk(lambda: read_album(album.folder), corrections, preview, rerun)
        try:
            server = ReviewServer(desk, port)
        except OSError as error:
            raise UsageError(f"--port {port}: can't be used ({error.strerror}); choose another one, or 0 for any") from error
        with server:
            print_lines(f"{server.address}\nCtrl-C ends it")
            if open_page:
                _open(server.address)
            try:
                server.serve_forever()
            except InterruptedRun:
                pass  # that is how it ends
            finally:
                rerun.stop()


def _graph(album: "Album", graph_file: Path | None, options: list[str]) -> "tuple[Graph, list[str], Path]":
    """The graph that made a folder, the arguments of `bwpipe` that run it again, and the folder to do so in.

    Raises UsageError.
    """
    import os

    from bwpipe.core.stage import Sink
    from bwpipe.engine.last_run import LastRun
    from bwpipe.errors import UsageError
    from bwpipe.graph.graph import read_graph
    from bwpipe.review.rerun import arguments_of

    if graph_file:
        graph = read_graph(graph_file, options)
        words = [word for option in options for word in ("--set", option)]
        arguments, place = ["run", str(graph_file), *words], Path.cwd()
    else:
        last = LastRun.read(album.folder)
        if last is None:
            again = "run the command that made it once more, which takes a moment, and try again"
            raise UsageError(f"{album.folder}: nothing in it says how it was made; {again}, or add `--graph` and its graph")
        if not last.folder.is_dir():
            raise UsageError(f"{album.folder} was made from {last.folder}, which is not there; add `--graph` and its graph")
        os.chdir(last.folder)  # the paths in its options are relative to it
        graph = last.read_graph().override(_parsed(options))
        arguments, place = arguments_of({**last.changes, **_parsed(options)}), last.folder
    folders = [node.stage.folder for node in graph.nodes if isinstance(node.stage, Sink)]
    if album.folder not in folders:
        raise UsageError(
            f"this graph writes into {', '.join(map(str, folders))}, not into {album.folder}; give the one that does"
        )
    return graph, arguments, place


def _parsed(options: list[str]) -> dict[str, object]:
    """Options as in `--set`, by key. Raises UsageError."""
    import yaml

    from bwpipe.errors import UsageError

    found = {}
    for option in options:
        key, equals, value = option.partition("=")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {option}: this is no YAML") from error
        if not equals:
            raise UsageError(f"--set {option}: write STAGE.OPTION=VALUE, such as colorize.vividness=0.4")
    return found


def _open(address: str) -> None:
    import webbrowser

    webbrowser.open(address)
