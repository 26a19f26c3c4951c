"""The network that a training begins with, and its optimiser."""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from bwpipe.dataset import Dataset
from bwpipe.errors import UsageError
from bwpipe.network import Network, NetworkOptions, load, locate, networks
from bwpipe.registry import UnknownNameError
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


def first_weights(options: TrainingOptions) -> dict[str, torch.Tensor] | None:
    """The weights of the checkpoint that the training starts from, if it names one. Raises UsageError."""
    if options.start is None:
        return None
    cls = network_class(options)
    return weights_of(options.start, cls, cls.Options.model_validate(options.model_options), "fit.start")


def weights_of(checkpoint: str, cls: type[Network], options: NetworkOptions, where: str) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint, float32 on the CPU.

    Args:
        checkpoint: Its path, or the name of one that comes with bwpipe.
        cls: The network that it must be of.
        options: What that is built with.
        where: The option that names it.

    Raises:
        UsageError: It is not there, or of another network.
    """
    path = locate(checkpoint)
    net, found = load(path)
    if found.network != cls.registered or net.options != options:
        other = f"{cls.registered} {options.model_dump(mode='json', exclude_defaults=True) or ''}".rstrip()
        raise UsageError(
            f"{where}: {path} is a checkpoint of {found.network} {found.options or ''}".rstrip()
            + f", which is another network than {other}; give one of the same network and options"
        )
    return net.state_dict()


def build(options: TrainingOptions) -> Network:
    """The network with its first weights, in float32 on the CPU; they follow from the options. Raises UsageError."""
    cls = network_class(options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        net = cls(cls.Options.model_validate(options.model_options))
    if weights := first_weights(options):
        net.load_state_dict(weights)
    else:
        net.prime()
    return net


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


def hold_backbone(net: Network, *, still: bool) -> None:
    """Put a network in training mode, its backbone held still or not: then it has no gradients, and its norms do not change."""
    net.train()
    if backbone := net.backbone():
        backbone.requires_grad_(not still)
        backbone.train(not still)
