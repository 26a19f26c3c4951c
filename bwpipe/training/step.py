"""One step of a training: a batch worked through, and the weights moved."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bwpipe.data.dataset import Dataset
from bwpipe.losses.combined import Combined
from bwpipe.nn.network import Network
from bwpipe.training.batch_views import BatchAugmenter, seed_of
from bwpipe.training.builders import build, check_sizes, freeze_backbone, make_optimiser
from bwpipe.training.options import TrainingOptions
from bwpipe.training.schedule import Schedule
from bwpipe.training.training_state import Part
from bwpipe.training.validation import predict_views

_CHANCE = 4
"""As the numbers in `views`: for what is random in a network itself."""


class TrainStep:
    """A network, its losses and its optimiser, in one process of one or more.

    Attributes:
        network: What is fitted.
        losses: What is made small.
        course: Which pictures each step shows.
        shower: How it shows them.
    """

    def __init__(self, options: TrainingOptions, data: Dataset, fabric: Fabric) -> None:
        """Build it all; the first weights follow from the options.

        Args:
            options: How to train.
            data: On what.
            fabric: Launched; says which of how many processes this is, and on which device it works.

        Raises:
            UsageError: Something does not fit together.
        """
        net = build(options)
        check_sizes(net, data, options)
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        self.network: Network = net.to(fabric.device).to(memory_format=layout)
        self.losses = Combined(options.losses, self.network, data).to(fabric.device)
        self.course = Schedule(data, options)
        self.shower = BatchAugmenter(data, options, self.losses.views, fabric.device)
        self._options, self._data, self._fabric = options, data, fabric
        self._optimiser = make_optimiser(self.network, options)
        self._scaler = torch.amp.GradScaler(fabric.device.type, enabled=options.precision == "float16")
        average = get_ema_multi_avg_fn(options.average)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True) if options.average else None

    @property
    def fitted(self) -> Network:
        """The network with the weights that count: their moving average, where there is one."""
        averaged: Network = self._average.module if self._average else self.network  # type: ignore[assignment]
        return averaged

    @property
    def parts(self) -> dict[str, Part]:
        """All that the steps to come depend on."""
        parts: dict[str, Part | None] = {
            "network": self.network,
            "optimiser": self._optimiser,
            "scaler": self._scaler,
            "average": self._average,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def step(self, step: int) -> dict[str, float]:
        """Make a step, unless a loss or the gradient is not finite.

        Returns:
            Each loss, and under "loss" their weighted sum, the means over the batch of all processes; the learning rate;
            and the 2-norm of the gradient, before it was clipped.
        """
        options = self._options
        rate = self.course.rate(step)
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["share"]
        freeze_backbone(self.network, still=self.course.share(step) < options.frozen or options.backbone_rate == 0)
        losses = self.gradients(step)
        if not all(map(math.isfinite, losses.values())):
            return losses
        self._scaler.unscale_(self._optimiser)
        norm = float(clip_grad_norm_(self.network.parameters(), options.clip or math.inf))
        if math.isfinite(norm) or self._scaler.is_enabled():  # the scaler leaves such a step out, and tries a smaller scale
            self._scaler.step(self._optimiser)
            self._scaler.update()
            if self._average:
                self._average.update_parameters(self.network)
        return {**losses, "rate": rate, "gradient": norm}

    def gradients(self, step: int) -> dict[str, float]:
        """Work the batch of a step through, so that every weight has its gradient; the losses, as `step` gives them."""
        places = self.course.places(step)
        self._optimiser.zero_grad()
        views = self.shower.views(step, places)
        if step + 1 < self.course.steps:
            self._data.fetch(self.course.places(step + 1))  # the disk works while this step is computed
        sums: dict[str, Tensor] = {}
        for part in self._shares(len(places)):
            with self._chances(step, part.start):
                shown = predict_views(self.network, views[part], self.autocast())
            total, each = self.losses(shown)
            share = (part.stop - part.start) / len(places)
            self._scaler.scale(total * share).backward()
            for name, value in {**each, "loss": total}.items():
                sums[name] = sums.get(name, 0.0) + value.detach() * share
        losses = torch.stack(list(sums.values()))
        if self._fabric.world_size > 1:
            losses = self._summed(losses)
            for weights in self.network.parameters():
                if weights.grad is not None:
                    weights.grad = self._summed(weights.grad)
        return dict(zip(sums, losses.tolist(), strict=True))

    def autocast(self) -> AbstractContextManager[Any]:
        """What the network's `forward` runs in, for the precision that was asked for."""
        kind: torch.dtype = getattr(torch, self._options.precision)
        return torch.autocast(self._fabric.device.type, kind, enabled=kind != torch.float32)

    def _shares(self, count: int) -> list[slice]:
        """The parts of a batch that this process works through, one after another."""
        parts = self._options.accumulate
        size = count // (self._fabric.world_size * parts)
        first = self._fabric.global_rank * parts
        return [slice(i * size, (i + 1) * size) for i in range(first, first + parts)]

    def agreed(self, here: bool) -> bool:
        """Whether something holds in any of the processes; all of them must ask."""
        if self._fabric.world_size == 1:
            return here
        return bool(self._summed(torch.tensor(float(here), device=self._fabric.device)))

    def _summed(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        summed: Tensor = self._fabric.all_reduce(values, reduce_op="sum")  # type: ignore[assignment]
        return summed

    @contextmanager
    def _chances(self, step: int, start: int) -> Iterator[None]:
        """Within it, a network's own chance, such as drop-out, follows from the step."""
        device = self._fabric.device
        with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
            torch.manual_seed(seed_of(self._options.seed, _CHANCE, step, start))
            yield
