"""The `fit` stage."""

import math
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, PrivateAttr
from torch.nn.functional import mse_loss
from torch.optim import Adam
from tqdm import tqdm

from bwpipe import Count, NoEffect, Run, RunAborted, Stage, UsageError, stage
from bwpipe.device import describe, find_device
from bwpipe.metrics import measure
from bwpipe.network import Network, networks
from bwpipe.registry import UnknownNameError
from bwpipe.state import State, hold
from bwpipe.training import Dataset, Fitted

EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal."""


@stage("fit")
class Fit(Stage):
    """Fits a network to a dataset and gives it with the weights that were best in validation.

    A training that was stopped goes on after its last whole epoch; on a CPU it ends with the same weights, byte for byte, as
    long as the number of threads is the same.
    """

    model: str = "autoencoder"
    """The network's name."""
    epochs: Count = 10
    """How often each picture is shown."""
    batch: Count = 32
    """How many pictures make one step."""
    rate: Annotated[float, Field(gt=0)] = 1e-3
    """The learning rate of Adam."""
    loss: Literal["rgb_mse"] = "rgb_mse"
    """What is made small: the mean squared error of RGB in 0..1."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Decides the first weights and the order of the pictures."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products of weights; sums and weights are float32 always."""
    device: NoEffect[str] = "auto"
    """Where to compute: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    threads: NoEffect[Count | None] = None
    """How many threads a CPU computes with; all cores by default."""
    runs: NoEffect[Path | None] = None
    """The folder that keeps the state of the training; `runs/` and the network's name by default."""

    _run: Run = PrivateAttr()
    _device: torch.device = PrivateAttr()

    def setup(self, run: Run) -> None:
        """Check the network and the device. Raises UsageError."""
        try:
            cls = networks[self.model]
        except UnknownNameError as error:
            raise UsageError(f"fit.model: {error}") from None
        if cls.produces != "rgb":
            raise UsageError(f"fit.loss: {self.loss} needs a network that gives RGB, but {self.model} gives {cls.produces}")
        self._run = run
        self._device = find_device(self.device)

    def stream(self, items: Iterator[Dataset]) -> Iterator[Fitted]:
        """Fit the network to the dataset."""
        return map(self._fit, items)

    def _fit(self, data: Dataset) -> Fitted:
        if self.threads:
            torch.set_num_threads(self.threads)
        net = self._build(data)
        with hold(self._folder):
            recipe = {**self.recipe(), "data": data.digest}
            state = State(net, Adam(net.parameters(), lr=self.rate), self._folder / "state.pt", recipe, goal="rgb_mse")
            with closing(_Progress(self.epochs, len(data.training), len(state.history), quiet=self._run.quiet)) as progress:
                for epoch in range(len(state.history) + 1, self.epochs + 1):
                    loss = self._train(state, data, epoch, progress)
                    figures = {"loss": loss, **measure(net, data, data.validation, tick=self._run.raise_if_stopped)}
                    if bad := [name for name, value in figures.items() if not math.isfinite(value)]:
                        raise RunAborted(f"{bad[0]} is not finite after epoch {epoch}; start over with a lower `fit.rate`")
                    progress.say(f"epoch {epoch}/{self.epochs}: " + ", ".join(f"{k} {v:.5f}" for k, v in figures.items()))
                    state.keep(figures)
        net.load_state_dict(state.best)
        return Fitted(net, data, self._story(state, data))

    @property
    def _folder(self) -> Path:
        return (self.runs or Path("runs", self.model)).expanduser()

    def _build(self, data: Dataset) -> Network:
        cls = networks[self.model]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            net = cls(cls.Options())
        if (size := net.input_size(data.size, data.size)) != (data.size, data.size):
            raise UsageError(f"{self.model} sees pictures of {size[0]} x {size[1]} pixels; set `pairs.size: {size[0]}`")
        if len(data.training) < self.batch:
            raise UsageError(f"there are {len(data.training)} pictures to train on, less than one batch of {self.batch}")
        return net.to(self._device).to(memory_format=torch.channels_last)

    def _train(self, state: State, data: Dataset, epoch: int, progress: "_Progress") -> float:
        """Show each picture once, in an order that follows from seed and epoch. The mean loss."""
        state.network.train()
        order = np.random.default_rng([self.seed, epoch]).permutation(data.training)
        total = 0.0
        for start in range(0, len(order), self.batch):
            self._run.raise_if_stopped()
            places = order[start : start + self.batch]
            luma, rgb = data.batch(places, self._device)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                guess = state.network(luma)
            loss = mse_loss(guess.float(), rgb)
            if not math.isfinite(value := loss.item()):
                step = start // self.batch + 1
                raise RunAborted(f"the loss is {value} at step {step} of epoch {epoch}; start over with a lower `fit.rate`")
            state.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            state.optimiser.step()
            total += value * len(places)
            progress.show(epoch, len(places), total / (start + len(places)))
        return total / len(order)

    def _story(self, state: State, data: Dataset) -> dict[str, Any]:
        """How the network was made."""
        options = self.model_dump(mode="json", include={"loss", "rate", "batch", "epochs", "seed", "precision"})
        return {
            "pictures": len(data.grey),
            "trained_on": len(data.training),
            "size": data.size,
            "parameters": sum(weights.numel() for weights in state.network.parameters()),
            "optimiser": type(state.optimiser).__name__,
            **options,
            "best_epoch": state.best_epoch,
            "steps": math.ceil(len(data.training) / self.batch) * state.best_epoch,
            "hardware": describe(self._device),
            "history": state.history,
        }


class _Progress:
    """Shows how far a training is: a bar on a terminal, else a line now and then."""

    def __init__(self, epochs: int, photos: int, done: int, *, quiet: bool) -> None:
        """`photos` are shown in each of `epochs`, `done` of which are over; `quiet` shows nothing."""
        self._quiet = quiet
        self._epochs = epochs
        self._left = photos * (epochs - done)
        self._shown = 0
        self._start = self._said = monotonic()
        self._bar = tqdm(
            total=photos * epochs,
            initial=photos * done,
            unit=" photos",
            dynamic_ncols=True,
            leave=False,
            disable=quiet or None,  # None: where there is no terminal
        )

    def show(self, epoch: int, photos: int, loss: float) -> None:
        """Show that some more photos were worked through in an epoch, whose mean loss is so much by now."""
        self._shown += photos
        now = monotonic()
        if not self._bar.disable:
            self._bar.set_description(f"epoch {epoch}/{self._epochs}, loss {loss:.5f}", refresh=False)
            self._bar.update(photos)
        elif now - self._said > EVERY:
            self._said = now
            rate = self._shown / (now - self._start)
            left = (self._left - self._shown) / rate
            self.say(f"epoch {epoch}/{self._epochs}: loss {loss:.5f} ({rate:.1f} photos/s, about {left:.0f} s left)")

    def say(self, text: str) -> None:
        """Show a line."""
        if not self._quiet:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()
