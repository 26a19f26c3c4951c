"""The command `bwpipe verify`."""

import json
from pathlib import Path
from typing import Annotated

import typer

STDOUT = Path("-")
"""What stands for standard output in the place of a file."""


def verify(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="What was coloured: a file, a folder, or a pattern.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="What came of it: a file, or the folder of the outputs.")],
    *,
    name: Annotated[
        str, typer.Option(metavar="PATTERN", help="What outputs are called without their ending, as `write.name` says.")
    ] = "{stem}",
    block: Annotated[
        float, typer.Option(min=0, help="How far the mean luma of a 16x16 block may move where coding has losses, of 255.")
    ] = 4.0,
    psnr: Annotated[float, typer.Option(min=0, help="The least PSNR of a frame's luma where coding has losses, in dB.")] = 36.0,
    exact: Annotated[bool, typer.Option("--exact", help="Let no luma sample move, however the output is coded.")] = False,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Refuse larger pictures and frames, as `read.max_pixels` does.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all that was found as JSON; - is standard output.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show differences and errors only.")] = False,
) -> None:
    """Prove that only colour was added: decode inputs and outputs, compare luma, times, streams, tags and metadata.

    Ends with 0 if so, with 1 and a line for each difference if not, with 2 if a file can't be read.
    """
    from bwpipe.core import plugins
    from bwpipe.core.atomic_file import check_writable, write_output
    from bwpipe.core.console import Progress, printable
    from bwpipe.errors import UsageError

    if name.count("{stem}") != 1 or any(sign in name.replace("{stem}", "") for sign in "{}/\\"):
        raise UsageError('--name wants a name with {stem} in it once, such as "{stem}-coloured"')
    target = check_writable(json_file) if json_file and json_file != STDOUT else None
    plugins.load()

    from bwpipe.engine.ledger import Ledger
    from bwpipe.verify.compare import Pairs, frames_of
    from bwpipe.verify.compare import verify as compare_all
    from bwpipe.verify.verdict import Limits, Verdict

    ledger = Ledger(output.expanduser().resolve())
    pairs = Pairs(source, output, name=name, max_pixels=max_pixels, is_output=ledger.wrote)
    progress, done = Progress(sum(frames_of(pairs)), quiet=quiet), 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress.show(done)

    def tell(path: Path, what: Verdict | str) -> None:
        if isinstance(what, str):
            progress.say(f"error: {path}: {what}")
        elif json_file != STDOUT:
            for line in what.lines(quiet=quiet):
                progress.tell(line)

    try:
        report = compare_all(pairs, Limits(block=block, psnr=psnr, exact=exact), tell=tell, tick=tick)
    finally:
        progress.close()
    if json_file:
        told = json.dumps(report.to_json(), indent=2)
        write_output(target, told + "\n") if target else print(told)
    if not quiet and json_file != STDOUT:
        print(printable(str(report)))
    raise typer.Exit(report.exit_code)
