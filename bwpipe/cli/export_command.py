"""The command `bwpipe export`."""

from pathlib import Path
from typing import Annotated

import typer

from bwpipe.cli.completion import complete_network


def export(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="A network's name, such as unet, or a checkpoint.",
            show_default=False,
            autocompletion=complete_network,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The ONNX model; an existing one is replaced.")
    ],
    *,
    opset: Annotated[int, typer.Option(min=18, max=20, help="The version of ONNX's operators.")] = 18,
    plugins: Annotated[
        list[Path] | None,
        typer.Option("--plugins", metavar="FOLDER", help="A folder of plug-ins, as in a graph; may be repeated."),
    ] = None,
) -> None:
    """Write a network as an ONNX model, for other programs; ONNX Runtime compares it with torch before it gets its name."""
    from bwpipe.core import plugins as plugin_folders
    from bwpipe.core.atomic_file import check_writable, write_output_bytes
    from bwpipe.core.console import print_lines
    from bwpipe.core.inputs import expand_user
    from bwpipe.nn.checkpoint_file import locate

    place = check_writable(output)
    plugin_folders.load(expand_user(folder) for folder in plugins or [])
    path = locate(network)
    from bwpipe.nn.onnx_export import export_onnx

    data = export_onnx(path, opset)
    write_output_bytes(place, data)
    print_lines(f"{output}: {len(data) / 1e6:.1f} MB")
