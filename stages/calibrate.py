"""The `calibrate` stage."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from pydantic import Field, PrivateAttr

from bwpipe import RunContext, Stage, UsageError, stage
from bwpipe.training.calibration import Calibratable, calibrate
from bwpipe.training.job import FittedNetwork, UpcomingTraining


@stage("calibrate")
class Calibrate(Stage):
    """Fits how a network's distribution over chroma bins becomes colours, on the dataset's validation images.

    A fitted network gives rare colours too much and neutral ones too little weight, and is paler than photographs where it is
    unsure. This puts back the true share of each bin, and then a factor of chroma that makes the images as colourful as the
    photographs are. Put it after `fit` (and `soup`) and before `score`; the network sees each validation
    image twice.
    """

    prior: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How far the share of each bin is put back: 0 not at all, 1 as in the validation images."""
    colourful: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Mean colourfulness (Hasler and Suesstrunk 2003) at vividness 0.5, as a share of the validation images'."""

    _run: RunContext = PrivateAttr()

    def setup(self, run: RunContext) -> None:
        """Keep the run, which may be asked to stop."""
        self._run = run

    def expect(self, upcoming: UpcomingTraining) -> None:
        """Refuse, before the first step, a network without bins, or a dataset without validation. Raises UsageError."""
        if not isinstance(upcoming.network, Calibratable):
            name = upcoming.network.registered
            raise UsageError(f"calibrate: the network {name!r} predicts no distribution over bins; leave `calibrate` out")
        if upcoming.data is None:
            raise UsageError("calibrate: `adapt` sets no images aside; leave `calibrate` out")
        if not len(upcoming.data.validation):
            raise UsageError("calibrate: there are no validation images; set `dataset.split` above 0")

    def stream(self, items: Iterator[FittedNetwork]) -> Iterator[FittedNetwork]:
        """Calibrate the network."""
        return map(self._calibrate, items)

    def _calibrate(self, fitted: FittedNetwork) -> FittedNetwork:
        assert fitted.data is not None, "`expect` refused it"
        found = calibrate(
            fitted.network.eval(), fitted.data, prior=self.prior, colourful=self.colourful, tick=self._run.raise_if_stopped
        )
        figures = {"prior": self.prior, "gain": round(found.gain, 4), "colourfulness": round(found.after, 2)}
        self._run.note(
            f"calibrate: colourfulness {found.before:.1f} -> {found.after:.1f}, of {found.target:.1f}; gain {found.gain:.2f}"
        )
        return replace(fitted, network=found.network, training={**fitted.training, "calibration": figures})
