"""The commands that only look: `bwpipe info` at a file, `bwpipe doctor` at what bwpipe runs on."""

import json
from pathlib import Path
from typing import Annotated

import typer

from bwpipe.cli.options import Json


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A picture or a film.", show_default=False)],
    json_output: Json = False,
) -> None:
    """Show what a file is and, if bwpipe wrote it, how: the network and the options, from its metadata."""
    from bwpipe.core.console import print_lines
    from bwpipe.core.inputs import expand_user
    from bwpipe.tools.info import file_info, info_lines

    found = file_info(expand_user(file))
    for line in [json.dumps(found, indent=2)] if json_output else info_lines(found):
        print_lines(line)


def doctor(json_output: Json = False) -> None:
    """Show versions, devices and codecs, for bug reports."""
    from bwpipe.core.console import print_lines
    from bwpipe.tools.doctor import diagnose

    found = diagnose()
    if json_output:
        print_lines(json.dumps(found, indent=2))
        return
    width = max(map(len, found))
    for name, fact in found.items():
        print_lines(f"{name:{width}}  {fact}")
