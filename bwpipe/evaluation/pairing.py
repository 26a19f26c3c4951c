"""Pairs references, images and videos, with their predictions."""

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
    """What is compared: reference images with predictions, reference videos, by name, with predictions."""

    references: Photographs
    predictions: Predictions
    films: Mapping[str, Unit]
    film_predictions: VideoPredictions


def of_network(
    model: str, on: str, sizing: Sizing, run: RunContext, *, vividness: float | None, quality: Quality, device: torch.device
) -> Comparison:
    """Photographs and films, compared with a network's predictions.

    Args:
        model: The network's name, or the path of a checkpoint.
        on: The photographs and films: a file, a folder or a pattern.
        sizing: Applied to the photographs first.
        run: Receives what is left out.
        vividness: As in `Network.decode`.
        quality: As in `Network.input_size`.
        device: The device of the network.

    Raises:
        UsageError: There is no such checkpoint, or no image or video.
    """
    path = locate(model)
    try:
        network, checkpoint = load(path)
    except UsageError as error:
        if isinstance(error.__cause__, UnknownNameError):
            raise UsageError(f"{error}; if it comes from a plug-in, name the plug-in's folder with --plugins") from error
        raise
    description = {"network": checkpoint.network, "checkpoint": path.name, "digest": digest(path)}
    network = network.to(device).to(memory_format=torch.channels_last)
    files, predictions = Files(on, run, videos=True), NetworkPredictions(network, vividness, description, quality)
    return Comparison(Photographs(files, sizing, run), predictions, files.videos, NetworkVideos(predictions))


def of_files(predictions: str, references: str, sizing: Sizing, run: RunContext) -> Comparison:
    """Photographs and films, compared with coloured ones of the same names; those without a partner cause a warning.

    Args:
        predictions: The coloured images and videos: a folder or a pattern.
        references: The references, likewise.
        sizing: Applied to both first.
        run: Receives what is left out.

    Raises:
        UsageError: No names match.
    """
    reference_files, prediction_files = (Files(path, run, videos=True) for path in (references, predictions))
    refused = [*reference_files.refused, *prediction_files.refused]
    found = partners(
        *(
            [*files.names, *(str(unreadable.name) for unreadable in files.refused)]
            for files in (reference_files, prediction_files)
        )
    )
    videos = partners(list(reference_files.videos), list(prediction_files.videos))
    if not (found or videos):
        raise UsageError(
            f"no image or film in {references} has a prediction of the same name in {predictions}; "
            "use folders with matching names"
        )
    unpaired = 0
    for files, paired, what in (
        (reference_files, {*found, *videos}, f"prediction in {predictions}"),
        (prediction_files, {*found.values(), *videos.values()}, f"reference in {references}"),
    ):
        units = {name: files.unit(name) for name in files.names} | files.videos
        for name, unit in units.items():
            if name not in paired:
                run.warn(f"not scored, since there is no {what} of the same name", unit.media, each=True)
                unpaired += 1
    readable = set(prediction_files.names)
    names = [name for name in reference_files.names if found.get(name) in readable]
    pairs = {reference_files.videos[name]: prediction_files.videos[other] for name, other in videos.items()}
    return Comparison(
        Photographs(reference_files, sizing, run, names, refused),
        FilePredictions(prediction_files, found, unpaired, sizing),
        {name: unit for name, unit in reference_files.videos.items() if name in videos},
        VideoFiles(pairs, run),
    )
