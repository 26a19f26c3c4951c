"""One training step: gradients of a batch and an update of the weights."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bwpipe.data.dataset import Dataset
from bwpipe.losses.combined import Combined
from bwpipe.nn.network import Network
from bwpipe.training.batch_views import BatchAugmenter, seed_of
from bwpipe.training.builders import build, check_hints, check_sizes, freeze_backbone, make_optimiser
from bwpipe.training.fabric import Fabric
from bwpipe.training.options import TrainingOptions
from bwpipe.training.schedule import Schedule
from bwpipe.training.training_state import Part
from bwpipe.training.validation import predict_views

_NETWORK = 4
"""As the numbers in `batch_views`: the random stream of a network's own randomness."""


class TrainStep:
    """A network, its losses and its optimiser, in one process of one or more.

    Attributes:
        network: The network being fitted.
        losses: What is minimised.
        schedule: The images and the learning rate of each step.
        augmenter: Makes the views of each step.
    """

    def __init__(self, options: TrainingOptions, data: Dataset, fabric: Fabric) -> None:
        """Build everything; the initial weights are determined by the options.

        Args:
            options: The training options.
            data: The dataset.
            fabric: Launched; knows this process's rank, the number of processes and the device.

        Raises:
            UsageError: The network, the dataset and the options do not fit together.
        """
        net = build(options)
        check_sizes(net, data.size, options)
        check_hints(net, options)
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        self.network: Network = net.to(fabric.device).to(memory_format=layout)
        self.losses = Combined(options.losses, self.network, data).to(fabric.device)
        self.schedule = Schedule(data, options)
        self.augmenter = BatchAugmenter(data, options, self.losses.views, fabric.device)
        self._options, self._data, self._fabric = options, data, fabric
        self._optimiser = make_optimiser(self.network, options)
        self._scaler = torch.amp.GradScaler(fabric.device.type, enabled=options.precision == "float16")
        average = get_ema_multi_avg_fn(options.average)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True) if options.average else None

    @property
    def fitted(self) -> Network:
        """The network that is validated and saved: with the moving average of the weights, if there is one."""
        averaged: Network = self._average.module if self._average else self.network  # type: ignore[assignment]
        return averaged

    @property
    def parts(self) -> dict[str, Part]:
        """Everything that later steps depend on, by name."""
        parts: dict[str, Part | None] = {
            "network": self.network,
            "optimiser": self._optimiser,
            "scaler": self._scaler,
            "average": self._average,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def step(self, step: int) -> dict[str, float]:
        """Make a step; the weights are not updated if a loss or the gradient is not finite.

        Returns:
            Each loss and, as "loss", their weighted sum, averaged over the whole batch of all processes; the learning rate
            ("rate"); and the 2-norm of the gradient before clipping ("gradient").
        """
        options = self._options
        rate = self.schedule.rate(step)
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["share"]
        freeze_backbone(self.network, still=self.schedule.epochs_completed(step) < options.frozen or options.backbone_rate == 0)
        losses = self.gradients(step)
        if not all(map(math.isfinite, losses.values())):
            return losses
        self._scaler.unscale_(self._optimiser)
        norm = float(clip_grad_norm_(self.network.parameters(), options.clip or math.inf))
        if math.isfinite(norm) or self._scaler.is_enabled():  # the scaler skips such a step and lowers its scale
            self._scaler.step(self._optimiser)
            self._scaler.update()
            if self._average:
                self._average.update_parameters(self.network)
        return {**losses, "rate": rate, "gradient": norm}

    def gradients(self, step: int) -> dict[str, float]:
        """Compute the gradients of a step's batch; returns the losses as `step` does."""
        indices = self.schedule.indices(step)
        self._optimiser.zero_grad()
        views = self.augmenter.views(step, indices)
        if step + 1 < self.schedule.steps:
            self._data.prefetch(self.schedule.indices(step + 1))  # the disk reads while this step is computed
        sums: dict[str, Tensor] = {}
        for part in self._micro_batches(len(indices)):
            with self._seeded(step, part.start):
                view_batch = predict_views(self.network, views[part], self.autocast())
            total, each = self.losses(view_batch)
            share = (part.stop - part.start) / len(indices)
            self._scaler.scale(total * share).backward()
            for name, value in {**each, "loss": total}.items():
                sums[name] = sums.get(name, 0.0) + value.detach() * share
        losses = torch.stack(list(sums.values()))
        if self._fabric.world_size > 1:
            losses = self._all_reduce(losses)
            for weights in self.network.parameters():
                if weights.grad is not None:
                    weights.grad = self._all_reduce(weights.grad)
        return dict(zip(sums, losses.tolist(), strict=True))

    def autocast(self) -> AbstractContextManager[Any]:
        """The autocast context for the network's `forward`, at the requested precision."""
        kind: torch.dtype = getattr(torch, self._options.precision)
        return torch.autocast(self._fabric.device.type, kind, enabled=kind != torch.float32)

    def _micro_batches(self, count: int) -> list[slice]:
        """The micro-batches of this process."""
        parts = self._options.accumulate
        size = count // (self._fabric.world_size * parts)
        first = self._fabric.global_rank * parts
        return [slice(i * size, (i + 1) * size) for i in range(first, first + parts)]

    def any_process(self, flag: bool) -> bool:
        """Whether a flag is set in any process; all processes must call this."""
        if self._fabric.world_size == 1:
            return flag
        return bool(self._all_reduce(torch.tensor(float(flag), device=self._fabric.device)))

    def _all_reduce(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        summed: Tensor = self._fabric.all_reduce(values, reduce_op="sum")  # type: ignore[assignment]
        return summed

    @contextmanager
    def _seeded(self, step: int, start: int) -> Iterator[None]:
        """Make a network's own randomness, such as dropout, depend on the step alone."""
        device = self._fabric.device
        with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
            torch.manual_seed(seed_of(self._options.seed, _NETWORK, step, start))
            yield
