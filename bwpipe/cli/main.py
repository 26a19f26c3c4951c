"""The command line."""

import gc
import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, TextIO

import typer

from bwpipe.cli.cluster_options import Ray, RayWorkers, cluster_lines, ray_executor
from bwpipe.cli.completion import complete_network
from bwpipe.cli.export_command import export
from bwpipe.cli.import_command import import_
from bwpipe.cli.info_commands import doctor, info
from bwpipe.cli.list_commands import losses, models, stages
from bwpipe.cli.options import Json, Set
from bwpipe.cli.preview_command import preview
from bwpipe.cli.review_command import report, review
from bwpipe.cli.score_command import score
from bwpipe.cli.signals import InterruptedRun, interruptible
from bwpipe.cli.starter_commands import init, samples, schema
from bwpipe.cli.verify_command import verify
from bwpipe.errors import BwpipeError, RunAborted, UsageError

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
_NEW_OBJECTS = 20_000
"""How many objects a command makes before those that can be freed are looked for: its imports make five times as many, and by
default Python looks 170 times meanwhile, which takes a twentieth of a second."""

GraphFile = Annotated[Path, typer.Argument(help="The graph file.", show_default=False)]
Update = Annotated[
    bool, typer.Option("--update", help="Also redo finished files that this version of bwpipe would write differently.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")]
Timings = Annotated[bool, typer.Option("--timings", help="Also show how long each stage was busy.")]


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
    start_lightly()
    try:
        app()
    except InterruptedRun as error:
        _print(str(error), sys.stderr)
        sys.exit(error.exit_code)
    finally:
        _drop_unread_output()
        gc.freeze()  # Python's end would look for circles among all objects, which takes a tenth of a second
    raise AssertionError("typer ends the process")


def start_lightly() -> None:
    """Leave out what libraries do at the start of any process, and a command does not need."""
    gc.set_threshold(_NEW_OBJECTS)
    # numpy's threads wait in a loop after its import, for a tenth of a second each, and sums depend on how many there are
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # pydantic would look through all installed packages for plug-ins that watch how models are validated
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


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
    from bwpipe.core.extras import missing_library
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
        elif isinstance(error, ImportError) and (remedy := missing_library(error)):
            error = UsageError(remedy)
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
    graph: "Graph | Path",
    options: list[str] | None,
    *,
    quiet: bool,
    restart: bool = False,
    update: bool = False,
    timings: bool = True,
    json_output: bool = False,
    share: str | None = None,
    ray: str | None = None,
    ray_workers: int | None = None,
) -> None:
    """Run a graph, show the result and exit with its code."""
    from bwpipe.engine.run import run_graph
    from bwpipe.engine.shares import Share
    from bwpipe.graph.graph import read_graph

    effect_of_rerun = "would start over; without --restart it resumes from here" if restart else "resumes from here"
    with _errors_as_messages(), interruptible(effect_of_rerun):
        read = read_graph(graph, options or []) if isinstance(graph, Path) else graph
        part = None if share is None else Share.parse(share)
        executor = None if ray is None else ray_executor(read, ray, ray_workers)
        result = run_graph(read, quiet=quiet, restart=restart, update=update, share=part, executor=executor, ends_process=True)
    if json_output:
        _print(json.dumps(result.to_json(), indent=2))
    elif not quiet:
        _print(result.summary(timings=timings))
    raise typer.Exit(result.exit_code)


@app.command()
def run(
    graph: GraphFile,
    options: Set = None,
    *,
    restart: Annotated[bool, typer.Option("--restart", help="Redo everything, including finished files.")] = False,
    update: Update = False,
    share: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Do one of N shares of the work, I from 0 to N - 1, on as many machines; run once without it afterwards.",
            show_default=False,
        ),
    ] = None,
    ray: Ray = None,
    ray_workers: RayWorkers = None,
    json_output: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a graph: colour pictures and films. Run it again to process only what is not done yet."""
    if ray_workers is not None and ray is None:
        raise typer.BadParameter("it is for --ray; add `--ray auto`", param_hint="--ray-workers")
    if ray is not None and share is not None:
        raise typer.BadParameter("--ray and --share are two ways to use several machines; choose one", param_hint="--share")
    _execute(
        graph,
        options,
        quiet=quiet,
        restart=restart,
        update=update,
        json_output=json_output,
        share=share,
        ray=ray,
        ray_workers=ray_workers,
    )


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


@app.command(short_help="Colour pictures and films, without a graph file.")
def colorize(
    sources: Annotated[
        list[str], typer.Argument(metavar="IN...", help="Pictures, films, folders of them, or patterns.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The output folder.")],
    *,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK",
            help="A network's name, such as unet, or a checkpoint.",
            show_default=False,
            autocompletion=complete_network,
        ),
    ] = None,
    vividness: Annotated[
        float | None, typer.Option(min=0, max=1, help="From 0 (safe average colour) to 1 (vivid, most likely colour).")
    ] = None,
    saturation: Annotated[
        float | None, typer.Option(min=0, max=4, help="Factor of the colours' strength; 1 by default.")
    ] = None,
    hints: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Hints: dots or strokes in the right colours, a file a picture.")
    ] = None,
    quality: Annotated[
        Literal["fast", "normal", "best"] | None,
        typer.Option(help="The resolution at which the network sees each picture; normal by default.", show_default=False),
    ] = None,
    options: Set = None,
    plugin_folders: Annotated[
        list[str] | None, typer.Option("--plugins", metavar="FOLDER", help="A folder of plug-ins; may be repeated.")
    ] = None,
    recolour: Annotated[
        bool, typer.Option("--recolour", help="Also replace the colours of pictures and films that are in colour already.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Verify each finished file, as `bwpipe verify` does.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Redo everything, including finished files.")] = False,
    update: Update = False,
    timings: Timings = False,
    json_output: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Colour pictures and films with the default graph, without a graph file. `colorise` is the same command."""
    from bwpipe.graph.corrections import CORRECTIONS
    from bwpipe.graph.document import Override
    from bwpipe.graph.graph import read_graph
    from bwpipe.graph.templates import template

    source = sources[0] if len(sources) == 1 else sources
    named = [
        Override("read.path", source, "IN"),
        Override("write.path", str(output), f"--output {output}"),
        Override("corrections", str(output / CORRECTIONS), "--output"),
        *([Override("plugins", plugin_folders, "--plugins")] if plugin_folders else []),
        *([Override("colorize.model", model, "--model")] if model is not None else []),
        *([Override("colorize.vividness", vividness, "--vividness")] if vividness is not None else []),
        *([Override("colorize.saturation", saturation, "--saturation")] if saturation is not None else []),
        *([Override("colorize.hints", hints, "--hints")] if hints is not None else []),
        *([Override("colorize.quality", quality, "--quality")] if quality is not None else []),
        *([Override("grayscale.colour", "recolour", "--recolour")] if recolour else []),
        *([Override("write.verify", True, "--verify")] if verify else []),
    ]
    with _errors_as_messages():
        graph = read_graph(template("pipeline.yaml"), [*named, *(options or [])])
    if dry_run:
        _describe(graph, briefly=True, json_output=json_output)
    else:
        _execute(graph, None, quiet=quiet, restart=restart, update=update, timings=timings, json_output=json_output)


app.command("colorise", hidden=True)(colorize)


@app.command()
def check(
    graph: GraphFile,
    options: Set = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Also estimate time and disk space for each film and folder, by a trial on some frames."),
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="auto|HOST:PORT",
            help="Also show what a Ray cluster has, and with --probe how long it would take.",
            show_default=False,
        ),
    ] = None,
    json_output: Json = False,
) -> None:
    """Check a graph and show what it would do, without running it."""
    from bwpipe.graph.graph import read_graph

    with _errors_as_messages(), interruptible("starts over"):
        if probe and json_output:
            raise UsageError("--json has no estimates; omit --probe or --json")
        if ray is not None and json_output:
            raise UsageError("--json says nothing of a cluster; omit --ray or --json")
        read = read_graph(graph, options or [])
        _describe(read, json_output=json_output)
        seconds = None
        if probe:
            from bwpipe.tools.estimate import Probe

            estimate = Probe(graph, options or [], started=process_time())  # by one thread: a run takes as long to get here
            for line in estimate.lines():
                _print(line)
            seconds = estimate.total.seconds
        if ray is not None:
            for line in cluster_lines(read, ray, seconds):
                _print(line)


def _describe(graph: "Graph", *, briefly: bool = False, json_output: bool) -> None:
    """Show the stages of a graph, and what a run would do now."""
    from bwpipe.tools.describe import describe_graph, graph_to_json

    with _errors_as_messages():
        if json_output:
            _print(json.dumps(graph_to_json(graph), indent=2))
        else:
            for line in describe_graph(graph, briefly=briefly):
                _print(line)


_IN_THE_LIST = {
    schema: "Print the JSON Schema of graph files, for editors.",
    samples: "Write black-and-white samples to try bwpipe on.",
    init: "Write graph files to start from into a folder.",
    import_: "Make a checkpoint of weights that others have published.",
    preview: "Write a sheet of a few frames, grey and coloured.",
    report: "Write a page to look at an output folder.",
    review: "Look at an output folder, and correct its colours.",
    score: "Measure a network, or coloured files, against the truth.",
    verify: "Verify that only colour was added.",
    export: "Write a network as an ONNX model, for other programs.",
    info: "Show what a file is and, if bwpipe wrote it, how.",
}
"""Of commands whose first sentence does not fit into the list of commands: one that does."""

for _command in (stages, models, losses, schema, samples, init, info, doctor):
    app.command(short_help=_IN_THE_LIST.get(_command))(_errors_as_messages()(_command))


app.command("import", short_help=_IN_THE_LIST[import_])(_errors_as_messages()(interruptible("starts over")(import_)))
for _slow_command in (preview, report, review, score, verify, export):
    app.command(short_help=_IN_THE_LIST[_slow_command])(_errors_as_messages()(interruptible("starts over")(_slow_command)))

_FIRST = ("colorize", "preview", "report", "review", "verify", "info", "run", "check", "init", "train", "score")
"""Of the list of commands, those that a newcomer needs first."""
_names = {name: place for place, name in enumerate(_FIRST)}
app.registered_commands.sort(key=lambda each: _names.get(getattr(each.callback, "__name__", ""), len(_names)))
