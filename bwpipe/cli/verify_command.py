"""The command `bwpipe verify`."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

STDOUT = Path("-")
"""The file argument that stands for standard output."""


def verify(
    sources: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="The originals: files, folders, or patterns.", show_default=False)
    ],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The coloured result: a file, or the output folder.")],
    *,
    name: Annotated[
        str, typer.Option(metavar="PATTERN", help="The outputs' names without suffix, as in `write.name`.")
    ] = "{stem}",
    block: Annotated[
        float,
        typer.Option(min=0, help="Maximum change of the mean luma of a 16x16 block with lossy coding, on a scale of 255."),
    ] = 4.0,
    psnr: Annotated[float, typer.Option(min=0, help="Minimum PSNR of a frame's luma with lossy coding, in dB.")] = 36.0,
    exact: Annotated[
        bool, typer.Option("--exact", help="Require every luma sample to be unchanged, however the output is coded.")
    ] = False,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Reject larger pictures and frames, as `read.max_pixels` does.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="FPS", help="Numbered frames: their frames per second, as `read.rate`.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the full report as JSON; - is standard output.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show differences and errors only.")] = False,
) -> None:
    """Verify that only colour was added: decode inputs and outputs, and compare luma, timestamps, streams, tags and metadata.

    Exits with 0 if so, with 1 and a line for each difference if not, with 2 if a file can't be read.
    """
    from bwpipe.core import plugins
    from bwpipe.core.atomic_file import check_writable, write_output
    from bwpipe.core.console import Progress, as_typed, print_lines
    from bwpipe.core.inputs import expand_user
    from bwpipe.errors import UsageError
    from bwpipe.sequence.naming import without_number
    from bwpipe.sequence.numbering import names_frames

    plain = without_number(name)
    if plain.count("{stem}") != 1 or any(char in plain.replace("{stem}", "").replace("{suffix}", "", 1) for char in "{}/\\"):
        raise UsageError('--name must contain {stem} exactly once, such as "{stem}-coloured"')
    target = check_writable(json_file) if json_file and json_file != STDOUT else None
    plugins.load()

    from bwpipe.core.atomic_file import WORK_FOLDER
    from bwpipe.engine.event_log import read_warnings
    from bwpipe.engine.ledger import Ledger
    from bwpipe.engine.outputs import EarlierOutputs
    from bwpipe.verify.compare import Pairs, frames_of
    from bwpipe.verify.compare import verify as compare_all
    from bwpipe.verify.verdict import Limits, Verdict

    resolved = Path(os.path.realpath(expand_user(output)))
    folder = resolved.parent if resolved.is_file() or names_frames(str(resolved)) else resolved
    outputs, roots = EarlierOutputs([Ledger(resolved)]), [Path(os.path.realpath(expand_user(each))) for each in sources]
    warnings = read_warnings(folder / WORK_FOLDER)

    def is_output(path: Path) -> bool:
        return any(outputs.wrote(path, root) for root in roots)

    def said(path: Path) -> Sequence[str]:
        return warnings.get(str(path), ())

    pairs = Pairs(sources, output, name=name, max_pixels=max_pixels, rate=rate, is_output=is_output, said=said)
    progress, done = Progress(sum(frames_of(pairs)), quiet=quiet), 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress.show(done)

    def show(path: Path, verdict: Verdict | str) -> None:
        if isinstance(verdict, str):
            progress.say(f"error: {as_typed(path)}: {verdict}")
        elif json_file != STDOUT:
            for line in verdict.lines(quiet=quiet):
                progress.print_result(line)

    try:
        report = compare_all(pairs, Limits(block=block, psnr=psnr, exact=exact), tell=show, tick=tick)
    finally:
        progress.close()
    if json_file:
        text = json.dumps(report.to_json(), indent=2)
        write_output(target, text + "\n") if target else print_lines(text)
    if not quiet and json_file != STDOUT:
        print_lines(str(report))
    raise typer.Exit(report.exit_code)
