"""Builds the initial network of a training and its optimiser."""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from bwpipe.core.registry import UnknownNameError
from bwpipe.errors import UsageError
from bwpipe.nn.checkpoint import load
from bwpipe.nn.checkpoint_file import describe, locate
from bwpipe.nn.network import Network, networks
from bwpipe.training.options import TrainingOptions


def network_class(options: TrainingOptions) -> type[Network]:
    """The network class that the options name, if it accepts them. Raises UsageError."""
    try:
        cls = networks[options.model]
        cls.Options.model_validate(network_options(options))
    except UnknownNameError as error:
        raise UsageError(f"fit.model: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["fit.model_options", *map(str, first["loc"])])
        raise UsageError(
            f"{place}: {first['msg'].removeprefix('Value error, ')}; `bwpipe models {options.model}` lists its options"
        ) from None
    return cls


def network_options(options: TrainingOptions) -> dict[str, Any]:
    """The options of the network: those given, and others as the checkpoint to start from has them. Raises UsageError."""
    if options.start is None:
        return options.model_options
    start = describe(locate(options.start))
    return {**(start.options if start.network == options.model else {}), **options.model_options}


def build_untrained(options: TrainingOptions) -> Network:
    """The network with random weights determined by the options, float32 on the CPU. Raises UsageError."""
    cls = network_class(options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return cls(cls.Options.model_validate(network_options(options)))


def build(options: TrainingOptions) -> Network:
    """The network with its initial weights, determined by the options, float32 on the CPU. Raises UsageError."""
    net = build_untrained(options)
    if options.start is None:
        net.prime()
    else:
        start, _ = load(locate(options.start))
        check_compatible(net, start, f"fit.start: {options.start}", additions=net.additions())
        net.load_state_dict(start.state_dict(), strict=False)
    return net


def check_compatible(wanted: Network, found: Network, what: str, *, additions: tuple[str, ...] = ()) -> None:
    """Refuse a network whose weights another cannot load; options that do not affect the weights may differ.

    Args:
        wanted: The network that loads the weights.
        found: The network in a checkpoint.
        what: The option that names the checkpoint, and the checkpoint's name.
        additions: Prefixes of weights that one of them may lack.

    Raises:
        UsageError: Their classes, or the names or shapes of their weights, differ.
    """
    shapes, others = ({name: each.shape for name, each in net.state_dict().items()} for net in (wanted, found))
    common = shapes.keys() & others.keys()
    needed, given = (
        {name: shape for name, shape in each.items() if name in common or not name.startswith(additions)}
        for each in (shapes, others)
    )
    if found.registered != wanted.registered or needed != given:
        raise UsageError(
            f"{what} is a checkpoint of {_describe(found, wanted)}, not of {_describe(wanted, found)}; "
            "use one of the same network and options"
        )


def _describe(net: Network, other: Network) -> str:
    """A network's name, and its options as far as they differ from another's of the same name."""
    options = net.options.model_dump(mode="json")
    if net.registered == other.registered:
        options = {name: value for name, value in options.items() if value != other.options.model_dump(mode="json")[name]}
    return f"{net.registered} {options or ''}".rstrip()


def check_hints(net: Network, options: TrainingOptions) -> None:
    """Refuse hints for a network that does not take them. Raises UsageError."""
    if options.hints and not net.takes_hints:
        raise UsageError(f"fit.hints: {options.model}, with its options, takes no hints; leave `hints` out")


def check_sizes(net: Network, pair_size: int, options: TrainingOptions) -> None:
    """Refuse image sizes that the network does not accept, for pairs of that height and width. Raises UsageError."""
    sides = options.augment.sides(pair_size)
    for size, remedy in ((pair_size, "pairs.size"), *((side, "fit.augment.crop") for side in sides)):
        if not net.takes(size, size):
            height, width = net.input_size(size, size)
            raise UsageError(
                f"{options.model} takes images of {height} x {width} pixels, not {size} x {size}; set `{remedy}` to match"
            )
    if max(sides) > pair_size:
        raise UsageError(
            f"fit.augment.crop: {max(sides)} is larger than the images ({pair_size}, `pairs.size`); use a smaller one"
        )


def make_optimiser(net: Network, options: TrainingOptions) -> Optimizer:
    """An optimiser whose parameter groups have a learning rate factor (`share`); biases and norms have no weight decay."""
    backbone = net.backbone()
    backbone_weights = set() if backbone is None else set(backbone.parameters())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for weights in net.parameters():
        share = options.backbone_rate if weights in backbone_weights else 1.0
        decay = options.weight_decay if weights.ndim > 1 else 0.0
        groups.setdefault((share, decay), []).append(weights)
    param_groups: list[dict[str, Any]] = [
        {"params": weights, "share": share, "weight_decay": decay} for (share, decay), weights in groups.items()
    ]
    classes: dict[str, Callable[..., Optimizer]] = {"adam": Adam, "adamw": AdamW}
    return classes[options.optimiser](param_groups, lr=options.rate)


def freeze_backbone(net: Network, *, still: bool) -> None:
    """Put a network in training mode; a frozen backbone (`still`) gets no gradients, and its norms keep their statistics."""
    net.train()
    if backbone := net.backbone():
        backbone.requires_grad_(not still)
        backbone.train(not still)
