"""The options of the `fit` stage."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bwpipe.core.inputs import PathText
from bwpipe.core.stage import AddedLater, Count, NoEffect
from bwpipe.training.augment import Augment
from bwpipe.training.degradation import Degradation
from bwpipe.training.random_hints import RandomHints

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class TrainingOptions(BaseModel):
    """The options for fitting a network to a dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "autoencoder"
    """Name of the network."""
    model_options: dict[str, Any] = {}
    """Options of the network; `bwpipe models NAME` lists them. With `start`, those left out are the checkpoint's."""
    start: PathText | None = None
    """A checkpoint of the same network from which the weights are initialised, instead of at random. Options that do not
    affect the weights, such as `vividness`, may differ."""
    epochs: Count = 10
    """Number of epochs; in each, every photograph is used as often as its weight says."""
    batch: Count = 32
    """Photographs per step; an incomplete last batch of an epoch is dropped."""
    accumulate: Count = 1
    """Number of micro-batches into which each batch is split to save memory; their gradients are accumulated."""

    losses: Annotated[dict[str, float | dict[str, Any]], Field(min_length=1)] = {"rgb_mse": 1.0}
    """The losses to minimise, by name, each with its weight, or with `weight` and options of its own."""
    optimiser: Literal["adam", "adamw"] = "adam"
    """Adam (Kingma and Ba 2015), or AdamW (Loshchilov and Hutter 2019), whose weight decay is decoupled from the gradient."""
    rate: Annotated[Positive, Field(allow_inf_nan=False)] = 1e-3
    """The peak learning rate."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The learning rate after the warm-up: constant, or decaying to 0 along half a cosine."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Number of steps over which the learning rate rises linearly from 0."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Weight decay of the optimiser; not applied to biases and norm weights."""
    clip: Positive | None = None
    """Clip the gradient to this 2-norm; no clipping by default."""
    average: Share = 0.0
    """Decay per step of an exponential moving average of the weights, such as 0.999; the average is validated and saved. At 0
    there is no averaging."""
    frozen: Annotated[float, Field(ge=0)] = 0.0
    """Number of epochs for which the network's backbone, if it has one, is frozen."""
    backbone_rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Factor applied to the backbone's learning rate afterwards; at 0 it stays frozen throughout."""

    augment: Augment = Augment()
    """Random augmentation of the photographs."""
    damage: Degradation | None = None
    """Degradation that makes the network's grey input, but not the target, look like old film; `{}` for the defaults."""
    hints: Annotated[RandomHints | None, AddedLater(without=None)] = None
    """Parts of the target's chroma that a network that takes hints is told; `{}` for the defaults, by default none."""
    shift: Annotated[int, Field(ge=0)] = 8
    """Maximum shift, in pixels, of the second view where a loss compares two."""

    goal: str = "loss"
    """The validation figure that selects the best weights; `epoch` selects the last ones."""
    patience: Count | None = None
    """Stop after this many consecutive epochs without improvement; no early stopping by default."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    """Random seed for the initial weights, the order of the photographs, their augmentation and their degradation."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of matrix products and convolutions (mixed precision); weights, sums and losses are always float32."""
    channels_last: bool = True
    """Use the channels-last memory layout, which is faster on most devices."""
    device: NoEffect[str] = "auto"
    """Device to compute on: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    devices: NoEffect[Count] = 1
    """Number of devices that share each batch, each in a process of its own; on a CPU, the number of processes."""
    threads: NoEffect[Count | None] = None
    """Number of CPU threads, shared by all processes; all cores by default."""
    keep: NoEffect[Annotated[float, Field(ge=0)]] = 300.0
    """Seconds between saves of the training's state; it is also saved after each epoch."""
