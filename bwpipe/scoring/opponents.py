"""Brings together what is to be compared: photographs, and the guesses of them."""

import torch

from bwpipe.errors import UsageError
from bwpipe.execution import Run
from bwpipe.network import Quality, load, locate
from bwpipe.registry import UnknownNameError
from bwpipe.scoring.files import Files, Sizing
from bwpipe.scoring.guesses import FileGuesses, NetworkGuesses, partners
from bwpipe.scoring.truths import Photographs
from bwpipe.stamp import digest


def of_network(
    model: str, on: str, sizing: Sizing, run: Run, *, vividness: float | None, quality: Quality, device: torch.device
) -> tuple[Photographs, NetworkGuesses]:
    """Photographs, and a network that colours them.

    Args:
        model: The network's name, or the path of a checkpoint.
        on: A file, a folder or a pattern.
        sizing: What is done to the photographs first.
        run: Is told what is left out.
        vividness: As in `Network.decode`.
        quality: As in `Network.input_size`.
        device: Where the network computes.

    Raises:
        UsageError: There is no such checkpoint, or no picture.
    """
    path = locate(model)
    try:
        network, checkpoint = load(path)
    except UsageError as error:
        if isinstance(error.__cause__, UnknownNameError):
            raise UsageError(f"{error}; if it is of a plug-in, name the folder with --plugins") from error
        raise
    about = {"network": checkpoint.network, "checkpoint": path.name, "digest": digest(path)}
    network = network.to(device).to(memory_format=torch.channels_last)
    return Photographs(Files(on, run), sizing, run), NetworkGuesses(network, vividness, about, quality)


def of_files(guess: str, truth: str, sizing: Sizing, run: Run) -> tuple[Photographs, FileGuesses]:
    """Photographs and coloured pictures with their names; those without a partner are warned of.

    Args:
        guess: The coloured pictures: a folder or a pattern.
        truth: The photographs, likewise.
        sizing: What is done to both first.
        run: Is told what is left out.

    Raises:
        UsageError: There are no two pictures of the same name.
    """
    truths, guesses = Files(truth, run), Files(guess, run)
    refused = [*truths.refused, *guesses.refused]
    found = partners(*([*files.names, *(str(broken.name) for broken in files.refused)] for files in (truths, guesses)))
    if not found:
        raise UsageError(f"no picture in {truth} has a guess of its name in {guess}; give folders with the same names")
    alone = 0
    for files, paired, what in ((truths, found.keys(), f"guess in {guess}"), (guesses, found.values(), f"truth in {truth}")):
        for name in files.names:
            if name not in paired:
                run.warn(f"there is no {what} with its name, so it is not scored", files.unit(name).media, each=True)
                alone += 1
    readable = set(guesses.names)
    names = [name for name in truths.names if found.get(name) in readable]
    return Photographs(truths, sizing, run, names, refused), FileGuesses(guesses, found, alone, sizing)
