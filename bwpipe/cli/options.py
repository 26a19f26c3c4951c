"""Options that several commands have."""

from typing import Annotated

import typer

from bwpipe.cli.completion import complete_set

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="STAGE.OPTION=VALUE",
        help="Override an option of the graph; may be repeated.",
        autocompletion=complete_set,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write the result to standard output as JSON.")]
