"""The `score` stage."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, PrivateAttr

from bwpipe import Count, NoEffect, RunContext, Stage, UsageError, stage
from bwpipe.core.atomic_file import check_writable, write_output
from bwpipe.core.inputs import PathText
from bwpipe.evaluation.references import Files, Sizing
from bwpipe.metrics import check_installed
from bwpipe.nn.device import cores
from bwpipe.nn.network import Quality, check_quality
from bwpipe.training.job import FittedNetwork, UpcomingTraining


@stage("score")
class Score(Stage):
    """Scores a fitted network's colours on photographs that it was not trained on, beside the figures of the grey input.

    A graph may have several in sequence: the checkpoint and its model card list the figures of each.
    """

    on: PathText | None = None
    """Photographs: a file, a folder, or a pattern; by default the dataset's validation photographs. Figures are also given for
    each top-level folder."""
    size: Annotated[int, Field(ge=11)] | None = None
    """Height and width, in pixels, to which the photographs are squashed first; by default they keep their size."""
    crop: bool = False
    """Cut out the central square of each before that."""
    vividness: Annotated[float, Field(ge=0, le=1)] | None = None
    """From 0 (the average, safe colour) to 1 (the most likely, vivid colour); by default the network's own setting."""
    quality: Quality = "normal"
    """Resolution of the network's input: `fast`, `normal` or `best`."""
    html: NoEffect[Path | None] = None
    """File for an HTML page with the figures and the best, median and worst photographs."""
    workers: NoEffect[Count] = Field(default_factory=cores)
    """Number of photographs scored in parallel; by default the number of cores."""

    _run: RunContext = PrivateAttr()
    _files: Files | None = PrivateAttr(default=None)
    _html: Path | None = PrivateAttr(default=None)

    def setup(self, run: RunContext) -> None:
        """Find the photographs and check that some are in colour. Raises UsageError."""
        check_installed()
        self._run = run
        self._html = check_writable(self.html) if self.html else None
        if self.on is not None:
            self._files = Files(self.on, run)
            if not self._files.in_colour(run):
                raise UsageError(f"score.on: no readable image in {self.on} is in colour; use colour images")

    def expect(self, upcoming: UpcomingTraining) -> None:
        """Refuse a quality that the network does not support, and warn of training photographs. Raises UsageError."""
        check_quality(upcoming.network, self.quality, "score")
        if self._files is None and upcoming.data is None:
            raise UsageError("score: `adapt` sets no images aside; set `score.on` to others, or leave `score` out")
        if (
            self._files
            and upcoming.data
            and (overlap := len({*self._files.paths()}.intersection(upcoming.data.training_files())))
        ):
            self._run.warn(
                f"score.on: {overlap:,} of {len(self._files.names):,} images in {self.on} are trained on, so their figures "
                "say little about others; use images from outside `read.path`, or omit `on`"
            )

    def stream(self, items: Iterator[FittedNetwork]) -> Iterator[FittedNetwork]:
        """Add the figures to the training record."""
        return map(self._score, items)

    def _score(self, fitted: FittedNetwork) -> FittedNetwork:
        from bwpipe.evaluation import html_report, text_report
        from bwpipe.evaluation.predictions import NetworkPredictions
        from bwpipe.evaluation.references import Photographs, References, Validation
        from bwpipe.evaluation.score import score

        run, sizing = self._run, Sizing(self.size, self.crop)
        if self._files:
            references: References = Photographs(self._files, sizing, run)
        else:
            assert fitted.data is not None, "`expect` refused it"
            references = Validation(fitted.data, sizing)
        weights = "as mixed by `soup`" if "soup" in fitted.training else "as fitted"
        about = {"network": fitted.network.registered, "weights": f"{weights}, before any rounding by `save`"}
        predictions = NetworkPredictions(fitted.network, self.vividness, about, self.quality)
        device = next(fitted.network.parameters()).device
        scores = score(references, predictions, run=run, device=device, workers=self.workers)
        for line in text_report.lines(scores):
            run.note(line)
        if self._html:
            write_output(self._html, html_report.page(scores, references, predictions, run))
        result = scores.to_json()
        added = {"protocol": result["protocol"], **result["all"], "by_folder": result["by_folder"]}
        return replace(fitted, training={**fitted.training, "scores": [*fitted.training.get("scores", []), added]})
