"""The `adapt` stage."""

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Annotated, Any

import torch
from pydantic import Field, PrivateAttr

from bwpipe import Count, Frame, Gather, NoEffect, RunContext, Unit, UsageError, stage
from bwpipe.core.fingerprint import Fingerprint, digest
from bwpipe.core.inputs import PathText
from bwpipe.nn.checkpoint_file import describe, locate
from bwpipe.nn.device import describe as describe_device
from bwpipe.nn.device import find_device
from bwpipe.nn.network import Network
from bwpipe.training.adaptation import ColouredStill, adapt, coloured_still
from bwpipe.training.builders import build
from bwpipe.training.job import ChecksTraining, FittedNetwork, UpcomingTraining
from bwpipe.training.options import TrainingOptions

_MOST = 256
"""Most stills, which are held in memory: up to 2 MB each."""
_LEAST_STEPS, _STEPS_EACH = 30, 4
"""Steps by default, and for each still, if that is more. On two films, 30 steps on their first frame took the chroma
correlation of others with the truth from 0.85 to 0.96 and from 0.63 to 0.95; a step of `unet` takes 0.2 to 0.3 s of a core."""
_FILMS = "films"


@stage("adapt")
class Adapt(Gather):
    """Fits a network to a few coloured stills of one film or series, in seconds, and outputs it for `save`.

    What sees (the encoder) stays as it is; what chooses colours (the decoder) is fitted until the stills come out in their
    colours, and what looks like them with them. Stills in black and white are left out, and so are films.
    """

    start: PathText = "unet"
    """The network to begin with: the name of one that ships with bwpipe, or a checkpoint."""
    steps: Count | None = None
    """Number of steps, each of which looks at one still; by default 30, or 4 for each still if that is more."""
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3
    """The learning rate of the first step; it decays to 0. A higher one comes closer to the stills, and forgets more."""
    device: NoEffect[str] = "auto"
    """Device to compute on: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""

    _run: RunContext = PrivateAttr()
    _network: Network = PrivateAttr()
    _device: torch.device = PrivateAttr()
    _record: dict[str, Any] = PrivateAttr(default_factory=dict)

    def setup(self, run: RunContext) -> None:
        """Read the network to begin with. Raises UsageError."""
        self._run = run
        run.skip_kind(self, "film", _FILMS)
        path = locate(self.start)
        self._network = build(TrainingOptions(model=describe(path).network, start=self.start))
        if self._network.foreign_graph() or not any(each.requires_grad for each in self._network.parameters()):
            raise UsageError(f"adapt.start: {self.start} is a graph of ONNX, which can't be fitted; give another network")
        self._device = find_device(self.device)
        self._record = {"recipe": "", "began with": f"{self.start} ({digest(path)})"}

    def ready(self, units: Mapping[Unit, Fingerprint | None], recipe: Sequence[Mapping[str, Any]]) -> None:
        """Refuse, before a still is read, what could not be done with them. Raises UsageError."""
        if len(units) > _MOST:
            raise UsageError(
                f"adapt: {len(units):,} stills are more than it can take ({_MOST}); give fewer, or fine-tune the network with "
                "all of them (`bwpipe init --finetune`)"
            )
        files = [(str(unit.name), found) for unit, found in units.items()]
        text = json.dumps([files, recipe, self._record], sort_keys=True)
        self._record["recipe"] = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        upcoming = UpcomingTraining(self._network, self._record["recipe"], None)
        for each in self._run.downstream(self):
            if isinstance(each, ChecksTraining):
                each.expect(upcoming)

    def gather(self, frames: Iterator[Frame]) -> FittedNetwork:
        """Fit the network to the stills. Raises UsageError if none is in colour; RunAborted."""
        stills = list(self._stills(frames))
        if not stills:
            raise UsageError("adapt: none of the stills is in colour; give coloured ones")
        steps = self.steps or max(_LEAST_STEPS, _STEPS_EACH * len(stills))
        found = adapt(self._network, stills, steps=steps, rate=self.rate, device=self._device, tick=self._run.raise_if_stopped)
        before, after = (round(255 * value, 1) for value in (found.before, found.after))
        what = "1 still" if len(stills) == 1 else f"{len(stills)} stills"
        self._run.note(f"adapt: {what}, {steps} steps: mean error of chroma on them {before} -> {after} code values")
        if after >= before:
            self._run.warn("`adapt` came no closer to the stills; set a lower `adapt.rate`, or more `adapt.steps`")
        training = {
            **self._record,
            "stills": len(stills),
            "error before, in code values": before,
            "error after": after,
            "hardware": describe_device(self._device),
            "options": {"steps": steps, "rate": self.rate},
        }
        return FittedNetwork(self._network, None, training)

    def _stills(self, frames: Iterator[Frame]) -> Iterator[ColouredStill]:
        """The frames that are in colour."""
        for frame in frames:
            media = frame.unit.media
            if media.kind == "film":
                self._run.exclude(media, _FILMS)
            elif frame.chroma is None:
                self._run.exclude(media, "in black and white")
            else:
                yield coloured_still(frame, self._network)
