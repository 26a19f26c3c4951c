"""The `score` stage."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, PrivateAttr

from bwpipe import Count, NoEffect, RunContext, Stage, UsageError, stage
from bwpipe.core.atomic_file import check_writable, write_output
from bwpipe.evaluation.references import Files, Sizing
from bwpipe.metrics import check_installed
from bwpipe.nn.device import cores
from bwpipe.nn.network import Quality, check_quality
from bwpipe.training.job import FittedNetwork, UpcomingTraining


@stage("score")
class Score(Stage):
    """Measures how good a fitted network's colours are on photographs that it has not seen, beside grey's own figures.

    A graph may have several, one after another: the checkpoint and its model card have the figures of each.
    """

    on: str | None = None
    """Photographs: a file, a folder, or a pattern; by default those of the dataset that were not trained on. Figures are
    given for each folder in it, too."""
    size: Annotated[int, Field(ge=11)] | None = None
    """Height and width in pixels to which the photographs are squashed first; by default they are scored as they are."""
    crop: bool = False
    """Cut out the square in the middle of each before that."""
    vividness: Annotated[float, Field(ge=0, le=1)] | None = None
    """From 0, the safe average colour, to 1, the lively likely one; the network's own default if not given."""
    quality: Quality = "normal"
    """How much the network sees of each photograph: `fast`, `normal` or `best`."""
    html: NoEffect[Path | None] = None
    """A file for a page with the figures and the best, the median and the worst pictures."""
    workers: NoEffect[Count] = Field(default_factory=cores)
    """How many pictures are worked on at a time; by default as many as there are cores."""

    _run: RunContext = PrivateAttr()
    _files: Files | None = PrivateAttr(default=None)
    _html: Path | None = PrivateAttr(default=None)

    def setup(self, run: RunContext) -> None:
        """Find the photographs, and see that they have colours to compare with. Raises UsageError."""
        check_installed()
        self._run = run
        self._html = check_writable(self.html) if self.html else None
        if self.on is not None:
            self._files = Files(self.on, run)
            if not self._files.in_colour(run):
                raise UsageError(
                    f"score.on: no picture in {self.on} that can be read is in colour; give others to compare with"
                )

    def expect(self, coming: UpcomingTraining) -> None:
        """Refuse a quality that the network does not know, and warn of photographs that it has seen. Raises UsageError."""
        check_quality(coming.network, self.quality, "score")
        if self._files and (seen := len({*self._files.real()}.intersection(coming.data.seen()))):
            self._run.warn(
                f"score.on: {seen:,} of {len(self._files.names):,} pictures in {self.on} are trained on, so their figures "
                "tell little of others; give pictures from outside `read.path`, or leave `on` out"
            )

    def stream(self, items: Iterator[FittedNetwork]) -> Iterator[FittedNetwork]:
        """Add the figures to how the network was made."""
        return map(self._score, items)

    def _score(self, fitted: FittedNetwork) -> FittedNetwork:
        from bwpipe.evaluation import html_report, text_report
        from bwpipe.evaluation.predictions import NetworkPredictions
        from bwpipe.evaluation.references import Photographs, References, Validation
        from bwpipe.evaluation.score import score

        run, sizing = self._run, Sizing(self.size, self.crop)
        truths: References = Photographs(self._files, sizing, run) if self._files else Validation(fitted.data, sizing)
        weights = "as mixed by `soup`" if "soup" in fitted.training else "as fitted"
        about = {"network": fitted.network.registered, "weights": f"{weights}, before any rounding by `save`"}
        guesses = NetworkPredictions(fitted.network, self.vividness, about, self.quality)
        device = next(fitted.network.parameters()).device
        scores = score(truths, guesses, run=run, device=device, workers=self.workers)
        for line in text_report.lines(scores):
            run.note(line)
        if self._html:
            write_output(self._html, html_report.page(scores, truths, guesses, run))
        told = scores.to_json()
        added = {"protocol": told["protocol"], **told["all"], "by_folder": told["by_folder"]}
        return replace(fitted, training={**fitted.training, "scores": [*fitted.training.get("scores", []), added]})
