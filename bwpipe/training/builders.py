"""The network that a training begins with, and its optimiser."""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from bwpipe.core.registry import UnknownNameError
from bwpipe.data.dataset import Dataset
from bwpipe.errors import UsageError
from bwpipe.nn.checkpoint import load, locate
from bwpipe.nn.network import Network, networks
from bwpipe.training.options import TrainingOptions


def network_class(options: TrainingOptions) -> type[Network]:
    """The network that the options name, if it can be built with them. Raises UsageError."""
    try:
        cls = networks[options.model]
        cls.Options.model_validate(options.model_options)
    except UnknownNameError as error:
        raise UsageError(f"fit.model: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["fit.model_options", *map(str, first["loc"])])
        raise UsageError(f"{place}: {first['msg']}; `bwpipe models {options.model}` lists what it takes") from None
    return cls


def build_untrained(options: TrainingOptions) -> Network:
    """The network with random weights, float32 on the CPU; they follow from the options. Raises UsageError."""
    cls = network_class(options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return cls(cls.Options.model_validate(options.model_options))


def build(options: TrainingOptions) -> Network:
    """The network with its first weights, in float32 on the CPU; they follow from the options. Raises UsageError."""
    net = build_untrained(options)
    if options.start is None:
        net.prime()
    else:
        start, _ = load(locate(options.start))
        check_alike(net, start, f"fit.start: {options.start}")
        net.load_state_dict(start.state_dict())
    return net


def check_alike(wanted: Network, found: Network, what: str) -> None:
    """Refuse a network whose weights another one can't take; options that change no weights may differ.

    Args:
        wanted: Which takes them.
        found: Of a checkpoint.
        what: The option that names the checkpoint, and its name.

    Raises:
        UsageError: They are not of one class, or their weights have other names or shapes.
    """
    shapes, others = ({name: each.shape for name, each in net.state_dict().items()} for net in (wanted, found))
    if found.registered != wanted.registered or shapes != others:
        raise UsageError(
            f"{what} is a checkpoint of {_told(found)}, which is another network than {_told(wanted)}; "
            "give one of the same network and options"
        )


def _told(net: Network) -> str:
    """A network's name and what it was built with."""
    return f"{net.registered} {net.options.model_dump(mode='json') or ''}".rstrip()


def check_sizes(net: Network, data: Dataset, options: TrainingOptions) -> None:
    """Refuse pictures of a size that the network can't see. Raises UsageError."""
    shown = options.augment.sides(data.size)
    for size, remedy in ((data.size, "pairs.size"), *((side, "fit.augment.crop") for side in shown)):
        if not net.takes(size, size):
            height, width = net.input_size(size, size)
            raise UsageError(
                f"{options.model} sees pictures of {height} x {width} pixels, not of {size}; set `{remedy}` to fit it"
            )
    if max(shown) > data.size:
        raise UsageError(f"fit.augment.crop: {max(shown)} is more than the pictures' size, {data.size} (`pairs.size`)")


def make_optimiser(net: Network, options: TrainingOptions) -> Optimizer:
    """An optimiser whose groups of weights say their share of the rate (`share`); biases and norms do not decay."""
    backbone = net.backbone()
    held = set() if backbone is None else set(backbone.parameters())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for weights in net.parameters():
        share = options.backbone_rate if weights in held else 1.0
        decay = options.weight_decay if weights.ndim > 1 else 0.0
        groups.setdefault((share, decay), []).append(weights)
    told: list[dict[str, Any]] = [
        {"params": weights, "share": share, "weight_decay": decay} for (share, decay), weights in groups.items()
    ]
    makers: dict[str, Callable[..., Optimizer]] = {"adam": Adam, "adamw": AdamW}
    return makers[options.optimiser](told, lr=options.rate)


def freeze_backbone(net: Network, *, still: bool) -> None:
    """Put a network in training mode, its backbone held still or not: then it has no gradients, and its norms do not change."""
    net.train()
    if backbone := net.backbone():
        backbone.requires_grad_(not still)
        backbone.train(not still)
