"""The command `bwpipe score`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from bwpipe.errors import UsageError

STDOUT = Path("-")
"""What stands for standard output in the place of a file."""


def score(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="[CHECKPOINT]",
            help="A network's name, for the weights that come with bwpipe, or a checkpoint.",
            show_default=False,
        ),
    ] = None,
    *,
    on: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="What it is to colour, photographs and films: a folder, or a pattern."),
    ] = None,
    guess: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Instead of a network: pictures and films that are coloured already.")
    ] = None,
    truth: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="With --guess: the photographs and films, with the same names.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=11, help="Squash all pictures to so many pixels in height and width first.")
    ] = None,
    crop: Annotated[bool, typer.Option("--crop", help="Cut out the square in the middle before that.")] = False,
    vividness: Annotated[
        float | None, typer.Option(min=0, max=1, help="From 0, the safe average colour, to 1, the lively likely one.")
    ] = None,
    quality: Annotated[
        Literal["fast", "normal", "best"] | None,
        typer.Option(help="How much the network sees of each photograph; normal by default.", show_default=False),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures as JSON; - is standard output.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with the best, median and worst pictures.")
    ] = None,
    plugin_folders: Annotated[
        list[Path] | None,
        typer.Option("--plugins", metavar="FOLDER", help="A folder of plug-ins, with its network; may be given several times."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="How many pictures are worked on at a time; by default one a core.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")] = False,
) -> None:
    """Compare colours with the truth: a network's, or those of pictures and films that are coloured already.

    Of films it tells how steady their chroma is, also where the source is in black and white.
    """
    from bwpipe.core import plugins
    from bwpipe.core.atomic_file import check_writable, write_output
    from bwpipe.metrics import check_installed

    of_network = checkpoint and on and not (guess or truth)
    of_files = guess and truth and not (checkpoint or on or quality or vividness is not None)
    if not (of_network or of_files):
        raise UsageError(
            "score either `CHECKPOINT --on FOLDER`, or `--guess FOLDER --truth FOLDER`, without --vividness and --quality"
        )
    wanted = {path: check_writable(path) for path in (json_file, html_file) if path and path != STDOUT}
    check_installed()
    plugins.load(plugin_folders or ())  # imports torch, as the following does: what takes no such wait was checked before

    from bwpipe.core.console import Progress, printable
    from bwpipe.core.context import RunContext
    from bwpipe.engine.planner import total_frames
    from bwpipe.evaluation import html_report, pairing, text_report
    from bwpipe.evaluation.references import Sizing
    from bwpipe.evaluation.score import score as compare
    from bwpipe.evaluation.video_scores import score_videos
    from bwpipe.metrics.temporal import SHORT
    from bwpipe.nn.device import cores, find_device

    where, sizing = find_device(device), Sizing(size, crop)
    progress = Progress(None, quiet=True)

    def say(text: str) -> None:
        progress.say(text)  # above the bar, once there is one

    run = RunContext(say=say)
    if checkpoint and on:
        found = pairing.of_network(checkpoint, on, sizing, run, vividness=vividness, quality=quality or "normal", device=where)
    else:
        assert guess, "was checked"
        assert truth, "was checked"
        found = pairing.of_files(guess, truth, sizing, run)
    if found.films and (size or crop):
        run.warn(f"films are compared at a short side of {SHORT} pixels; --size and --crop are for pictures")
    truths, guesses, films, film_guesses = found
    frames = total_frames(list(films.values())) or 0
    progress = Progress(len(truths.names) + frames, quiet=quiet)
    try:
        of_films = score_videos(films, film_guesses, run, progress.show)
        scores = compare(
            *(truths, guesses),
            run=run,
            device=where,
            workers=workers or cores(),
            show=lambda done: progress.show(frames + done),
            films=of_films,
        )
        if html_file:
            write_output(wanted[html_file], html_report.page(scores, truths, guesses, run))
    finally:
        progress.close()
    if json_file:
        told = json.dumps(scores.to_json(), indent=2)
        write_output(wanted[json_file], told + "\n") if json_file != STDOUT else print(told)
    if not quiet and json_file != STDOUT:
        for line in (*text_report.lines(scores), "", *text_report.pairs(text_report.meanings(scores))):
            print(printable(line))
    raise typer.Exit(1 if run.failures else 0)
