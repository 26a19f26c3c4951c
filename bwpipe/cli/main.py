"""The command line."""

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TextIO

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
    help="Colourise folders of black-and-white photographs and old films, and train the network that does it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_debug = False

GraphFile = Annotated[Path, typer.Argument(help="The graph file.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.OPTION=VALUE", help="Override an option of the graph; may be repeated."),
]
Update = Annotated[
    bool, typer.Option("--update", help="Also redo finished files that this version of bwpipe would write differently.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")]


def _set_debug(value: bool) -> bool:
    global _debug  # noqa: PLW0603 (typer has no other place for a global option)
    _debug = _debug or value
    return value


Debug = Annotated[bool, typer.Option("--debug", callback=_set_debug, help="Show the traceback of an error.")]


def _print(text: str, stream: TextIO | None = None) -> None:
    from bwpipe.core.console import print_lines

    print_lines(text, stream)


def main() -> NoReturn:
    """Run the command line and exit with its status: 0, 1, 2, 3, 130 or 143."""
    try:
        app()
    except InterruptedRun as error:
        _print(str(error), sys.stderr)
        sys.exit(error.exit_code)
    finally:
        _drop_unread_output()
    raise AssertionError("typer ends the process")


def _drop_unread_output() -> None:
    """Drop what nobody reads any more, as after `| head`: Python's flush at exit would fail, and change the exit code."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 (stays open until exit)


@contextmanager
def _errors_as_messages() -> Iterator[None]:
    """Show an error as a sentence and exit with its code."""
    from bwpipe.core.memory import OUT_OF_MEMORY, is_out_of_memory, is_short
    from bwpipe.errors import format_error

    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        if _debug:
            traceback.print_exc()
        if not isinstance(error, BwpipeError) and (is_out_of_memory(error) or is_short()):
            error = RunAborted(OUT_OF_MEMORY)
        text = (
            str(error)
            if isinstance(error, BwpipeError)
            else f"{format_error(error)}; this is a bug in bwpipe; --debug shows the traceback"
        )
        for line in text.splitlines():
            _print(f"error: {line}", sys.stderr)
        raise typer.Exit(error.exit_code if isinstance(error, BwpipeError) else RunAborted.exit_code) from None


def _version(value: bool) -> None:
    if value:
        from bwpipe.version import __version__

        _print(f"bwpipe {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Debug = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of every command."""


def _execute(
    graph: "Graph | Path", options: list[str] | None, *, quiet: bool, restart: bool = False, update: bool = False
) -> None:
    """Run a graph, show the result and exit with its code."""
    from bwpipe.engine.run import run_graph
    from bwpipe.graph.graph import read_graph

    effect_of_rerun = "would start over; without --restart it resumes from here" if restart else "resumes from here"
    with _errors_as_messages(), interruptible(effect_of_rerun):
        read = read_graph(graph, options or []) if isinstance(graph, Path) else graph
        result = run_graph(read, quiet=quiet, restart=restart, update=update)
    if not quiet:
        _print(str(result))
    raise typer.Exit(result.exit_code)


@app.command()
def run(
    graph: GraphFile,
    options: Set = None,
    *,
    restart: Annotated[bool, typer.Option("--restart", help="Redo everything, including finished files.")] = False,
    update: Update = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a graph: colour pictures and films. Run it again to process only what is not done yet."""
    _execute(graph, options, quiet=quiet, restart=restart, update=update)


@app.command()
def train(
    graph: GraphFile,
    options: Set = None,
    restart: Annotated[bool, typer.Option("--restart", help="Start over instead of resuming the training.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a training graph: train a network on colour photographs. Run it again to resume an interrupted training."""
    _execute(graph, options, quiet=quiet, restart=restart)


@app.command()
def colorize(
    source: Annotated[str, typer.Argument(metavar="IN", help="A picture, a film, a folder of them, or a pattern.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The output folder.")],
    options: Set = None,
    *,
    update: Update = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Colour pictures and films with the default graph, without a graph file."""
    from bwpipe.graph.graph import read_graph
    from bwpipe.graph.templates import template

    with _errors_as_messages():
        paths = [f"read.path={json.dumps(source)}", f"write.path={json.dumps(str(output))}"]  # JSON strings are valid YAML
        graph = read_graph(template("pipeline.yaml"), [*paths, *(options or [])])
    _execute(graph, None, quiet=quiet, update=update)


@app.command()
def check(
    graph: GraphFile,
    options: Set = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Also estimate time and disk space for each film and folder, by a trial on some frames."),
    ] = False,
) -> None:
    """Check a graph and show what it would do, without running it."""
    from bwpipe.graph.graph import read_graph
    from bwpipe.tools.describe import describe_graph

    with _errors_as_messages(), interruptible("starts over"):
        for line in describe_graph(read_graph(graph, options or [])):
            _print(line)
        if probe:
            from bwpipe.tools.estimate import Probe

            for line in Probe(graph, options or []).lines():
                _print(line)


for _command in (stages, models, losses):
    app.command()(_errors_as_messages()(_command))


@app.command()
def schema() -> None:
    """Print the JSON Schema of graph files, for editors."""
    from bwpipe.graph.json_schema import schema as make_schema

    with _errors_as_messages():
        _print(json.dumps(make_schema(), indent=2))


@app.command()
def samples(folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder to write to.")] = Path("samples")) -> None:
    """Write black-and-white samples: scikit-image's photographs, and a five-second film with sound."""
    from bwpipe.tools.samples import write_samples

    with _errors_as_messages():
        for path in write_samples(folder):
            _print(str(path))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder to write to; created if missing.")] = Path(),
) -> None:
    """Write pipeline.yaml and train.yaml into a folder; existing ones are never overwritten."""
    from bwpipe.graph.templates import write_templates

    with _errors_as_messages():
        for path in write_templates(folder):
            _print(str(path))


for _slow_command in (preview, score, verify):
    app.command()(_errors_as_messages()(interruptible("starts over")(_slow_command)))


@app.command()
def doctor() -> None:
    """Show versions, devices and codecs, for bug reports."""
    from bwpipe.tools.doctor import diagnose

    for name, fact in diagnose().items():
        _print(f"{name:16}  {fact}")
