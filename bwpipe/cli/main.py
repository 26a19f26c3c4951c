"""The command line."""

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from bwpipe.cli.list_commands import losses, models, stages
from bwpipe.cli.preview_command import preview
from bwpipe.cli.score_command import score
from bwpipe.cli.signals import InterruptedRun, interruptible
from bwpipe.cli.verify_command import verify
from bwpipe.errors import BwpipeError, RunAborted

if TYPE_CHECKING:
    from bwpipe.graph.graph import Graph

app = typer.Typer(
    help="Colourises folders of black-and-white photographs and old films, and trains the network that does it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_debug = False

GraphFile = Annotated[Path, typer.Argument(help="The graph file.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.OPTION=VALUE", help="Change an option of the graph; may be given several times."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")]


def _set_debug(asked: bool) -> bool:
    global _debug  # noqa: PLW0603 (typer has no other place for an option of all commands)
    _debug = _debug or asked
    return asked


Debug = Annotated[bool, typer.Option("--debug", callback=_set_debug, help="Show where in the code an error came from.")]


def main() -> NoReturn:
    """Run the command line, and end the process with what came of it: 0, 1, 2, 3, 130 or 143."""
    try:
        app()
    except InterruptedRun as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    raise AssertionError("typer ends the process")


@contextmanager
def _refusals() -> Iterator[None]:
    """Show an error in a sentence, and end with its code."""
    from bwpipe.core.console import printable
    from bwpipe.errors import format_error

    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        if _debug:
            traceback.print_exc()
        text = (
            str(error)
            if isinstance(error, BwpipeError)
            else f"{format_error(error)}; this is a fault of bwpipe: --debug shows where it is"
        )
        for line in text.splitlines():
            with suppress(OSError):
                print(f"error: {printable(line)}", file=sys.stderr)
        raise typer.Exit(error.exit_code if isinstance(error, BwpipeError) else RunAborted.exit_code) from None


def _version(asked: bool) -> None:
    if asked:
        from bwpipe.version import __version__

        print(f"bwpipe {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Debug = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version, and no more.")
    ] = False,
) -> None:
    """The options of every command."""


def _execute(graph: "Graph | Path", options: list[str] | None, *, quiet: bool, restart: bool = False) -> None:
    """Run a graph, show what came of it, and end with its code."""
    from bwpipe.engine.run import run_graph
    from bwpipe.graph.graph import read_graph

    again = "would begin anew; without --restart it goes on from here" if restart else "goes on from here"
    with _refusals(), interruptible(again):
        read = read_graph(graph, options or []) if isinstance(graph, Path) else graph
        outcome = run_graph(read, quiet=quiet, restart=restart)
    if not quiet:
        try:
            print(outcome, flush=True)
        except OSError:  # nobody reads it any more; nor what Python would flush at its end
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 (for the rest of the process)
    raise typer.Exit(outcome.exit_code)


@app.command()
def run(
    graph: GraphFile,
    options: Set = None,
    restart: Annotated[bool, typer.Option("--restart", help="Do all again, also what is done already.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a graph: colour pictures and films. The same command again does the rest only."""
    _execute(graph, options, quiet=quiet, restart=restart)


@app.command()
def train(
    graph: GraphFile,
    options: Set = None,
    restart: Annotated[bool, typer.Option("--restart", help="Start over, instead of going on with the training.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a train graph: fit a network to colour photographs. The same command again goes on where it was."""
    _execute(graph, options, quiet=quiet, restart=restart)


@app.command()
def colorize(
    source: Annotated[str, typer.Argument(metavar="IN", help="A picture, a film, a folder of them, or a pattern.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The folder for the coloured ones.")],
    options: Set = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Colour pictures and films with the graph of `bwpipe init`, without a file."""
    from bwpipe.graph.graph import read_graph
    from bwpipe.graph.templates import template

    with _refusals():
        paths = [f"read.path={json.dumps(source)}", f"write.path={json.dumps(str(output))}"]  # JSON's texts are YAML's
        graph = read_graph(template("pipeline.yaml"), [*paths, *(options or [])])
    _execute(graph, None, quiet=quiet)


@app.command()
def check(
    graph: GraphFile,
    options: Set = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also say of each film and folder what it would take, by a trial of some frames.")
    ] = False,
) -> None:
    """Read and check a graph, say what it would do, and run nothing."""
    from bwpipe.core.console import printable
    from bwpipe.graph.graph import read_graph
    from bwpipe.tools.describe import describe_graph

    with _refusals(), interruptible("starts anew"):
        for line in describe_graph(read_graph(graph, options or [])):
            print(line)
        if probe:
            from bwpipe.tools.estimate import Probe

            for line in Probe(graph, options or []).lines():
                print(printable(line), flush=True)


for _listing in (stages, models, losses):
    app.command()(_refusals()(_listing))


@app.command()
def schema() -> None:
    """Print the JSON Schema of graph files, for editors."""
    from bwpipe.graph.json_schema import schema as make_schema

    with _refusals():
        print(json.dumps(make_schema(), indent=2))


@app.command()
def samples(folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to.")] = Path("samples")) -> None:
    """Write black-and-white samples: scikit-image's photographs, and a film of five seconds with sound."""
    from bwpipe.tools.samples import write_samples

    with _refusals():
        for path in write_samples(folder):
            print(path)


@app.command()
def init(folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to; created if missing.")] = Path()) -> None:
    """Write pipeline.yaml and train.yaml into a folder that has none yet."""
    from bwpipe.graph.templates import write_templates

    with _refusals():
        for path in write_templates(folder):
            print(path)


for _long in (preview, score, verify):
    app.command()(_refusals()(interruptible("starts anew")(_long)))


@app.command()
def doctor() -> None:
    """Show versions, devices and codecs, for bug reports."""
    from bwpipe.tools.doctor import diagnose

    for name, fact in diagnose().items():
        print(f"{name:16}  {fact}")
