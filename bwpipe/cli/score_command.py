"""The command `bwpipe score`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from bwpipe.errors import UsageError

STDOUT = Path("-")
"""The file argument that stands for standard output."""


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
        typer.Option(metavar="FOLDER", help="The photographs and films to evaluate it on: a folder or a pattern."),
    ] = None,
    guess: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Instead of a network: pictures and films that are already coloured.")
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="With --guess: the original photographs and films, with the same names."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=11, help="First resize all pictures to this height and width, in pixels.")
    ] = None,
    crop: Annotated[bool, typer.Option("--crop", help="Crop the central square before that.")] = False,
    vividness: Annotated[
        float | None, typer.Option(min=0, max=1, help="From 0 (safe average colour) to 1 (vivid, most likely colour).")
    ] = None,
    quality: Annotated[
        Literal["fast", "normal", "best"] | None,
        typer.Option(help="The resolution at which the network sees each photograph; normal by default.", show_default=False),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all scores as JSON; - is standard output.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write an HTML page with the best, median and worst pictures.")
    ] = None,
    plugin_folders: Annotated[
        list[Path] | None,
        typer.Option("--plugins", metavar="FOLDER", help="A folder of plug-ins, such as the network's; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="The device to compute on: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of pictures processed in parallel; by default, the number of cores.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")] = False,
) -> None:
    """Compare the colours of a network, or of already coloured pictures and films, with the ground truth.

    For films it also measures the temporal stability of chroma, even if the source is black and white.
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
    targets = {path: check_writable(path) for path in (json_file, html_file) if path and path != STDOUT}
    check_installed()
    plugins.load(plugin_folders or ())  # imports torch, as do the following: quick checks come first

    from bwpipe.core.console import Progress, print_lines
    from bwpipe.core.context import RunContext
    from bwpipe.engine.planner import total_frames
    from bwpipe.evaluation import html_report, pairing, text_report
    from bwpipe.evaluation.references import Sizing
    from bwpipe.evaluation.score import score as compare
    from bwpipe.evaluation.video_scores import score_videos
    from bwpipe.metrics.temporal import SHORT
    from bwpipe.nn.device import cores, find_device

    torch_device, sizing = find_device(device), Sizing(size, crop)
    progress = Progress(None, quiet=True)

    def say(text: str) -> None:
        progress.say(text)  # above the bar, once there is one

    run = RunContext(say=say)
    if checkpoint and on:
        pairs = pairing.of_network(
            checkpoint, on, sizing, run, vividness=vividness, quality=quality or "normal", device=torch_device
        )
    else:
        assert guess, "was checked"
        assert truth, "was checked"
        pairs = pairing.of_files(guess, truth, sizing, run)
    if pairs.films and (size or crop):
        run.warn(f"films are compared at a short side of {SHORT} pixels; --size and --crop are for pictures")
    references, predictions, videos, video_predictions = pairs
    frames = total_frames(list(videos.values())) or 0
    progress = Progress(len(references.names) + frames, quiet=quiet)
    try:
        video_scores = score_videos(videos, video_predictions, run, progress.show)
        scores = compare(
            *(references, predictions),
            run=run,
            device=torch_device,
            workers=workers or cores(),
            show=lambda done: progress.show(frames + done),
            films=video_scores,
        )
        if html_file:
            write_output(targets[html_file], html_report.page(scores, references, predictions, run))
    finally:
        progress.close()
    if json_file:
        text = json.dumps(scores.to_json(), indent=2)
        write_output(targets[json_file], text + "\n") if json_file != STDOUT else print_lines(text)
    if not quiet and json_file != STDOUT:
        for line in (*text_report.lines(scores), "", *text_report.pairs(text_report.meanings(scores))):
            print_lines(line)
    raise typer.Exit(1 if run.failures else 0)
