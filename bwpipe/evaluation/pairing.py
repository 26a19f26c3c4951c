"""Brings together what is to be compared: photographs and films, and the guesses of them."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from bwpipe.core.context import RunContext
from bwpipe.core.fingerprint import digest
from bwpipe.core.frame import Unit
from bwpipe.core.registry import UnknownNameError
from bwpipe.errors import UsageError
from bwpipe.evaluation.predictions import FilePredictions, NetworkPredictions, Predictions, partners
from bwpipe.evaluation.references import Files, Photographs, Sizing
from bwpipe.evaluation.video_scores import NetworkVideos, VideoFiles, VideoPredictions
from bwpipe.nn.checkpoint import load, locate
from bwpipe.nn.network import Quality


class Comparison(NamedTuple):
    """What is to be compared: photographs with guesses of them, films by name with guesses of them."""

    truths: Photographs
    guesses: Predictions
    films: Mapping[str, Unit]
    film_guesses: VideoPredictions


def of_network(
    model: str, on: str, sizing: Sizing, run: RunContext, *, vividness: float | None, quality: Quality, device: torch.device
) -> Comparison:
    """Photographs and films, and a network that colours them.

    Args:
        model: The network's name, or the path of a checkpoint.
        on: A file, a folder or a pattern.
        sizing: What is done to the photographs first.
        run: Is told what is left out.
        vividness: As in `Network.decode`.
        quality: As in `Network.input_size`.
        device: Where the network computes.

    Raises:
        UsageError: There is no such checkpoint, or no picture or film.
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
    files, guesses = Files(on, run, films=True), NetworkPredictions(network, vividness, about, quality)
    return Comparison(Photographs(files, sizing, run), guesses, files.films, NetworkVideos(guesses))


def of_files(guess: str, truth: str, sizing: Sizing, run: RunContext) -> Comparison:
    """Photographs and films, and coloured ones with their names; those without a partner are warned of.

    Args:
        guess: The coloured pictures: a folder or a pattern.
        truth: The photographs, likewise.
        sizing: What is done to both first.
        run: Is told what is left out.

    Raises:
        UsageError: There are no two of the same name.
    """
    truths, guesses = (Files(path, run, films=True) for path in (truth, guess))
    refused = [*truths.refused, *guesses.refused]
    found = partners(*([*files.names, *(str(broken.name) for broken in files.refused)] for files in (truths, guesses)))
    films = partners(list(truths.films), list(guesses.films))
    if not (found or films):
        raise UsageError(f"no picture or film in {truth} has a guess of its name in {guess}; give folders with the same names")
    alone = 0
    for files, paired, what in (
        (truths, {*found, *films}, f"guess in {guess}"),
        (guesses, {*found.values(), *films.values()}, f"truth in {truth}"),
    ):
        units = {name: files.unit(name) for name in files.names} | files.films
        for name, unit in units.items():
            if name not in paired:
                run.warn(f"there is no {what} with its name, so it is not scored", unit.media, each=True)
                alone += 1
    readable = set(guesses.names)
    names = [name for name in truths.names if found.get(name) in readable]
    pairs = {truths.films[name]: guesses.films[other] for name, other in films.items()}
    return Comparison(
        Photographs(truths, sizing, run, names, refused),
        FilePredictions(guesses, found, alone, sizing),
        {name: truths.films[name] for name in truths.films if name in films},
        VideoFiles(pairs, run),
    )
