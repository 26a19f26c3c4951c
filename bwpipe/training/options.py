"""How a network is fitted: the options of the `fit` stage."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bwpipe.core.stage import Count, NoEffect
from bwpipe.training.augment import Augment
from bwpipe.training.degradation import Degradation

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class TrainingOptions(BaseModel):
    """How a network is fitted to a dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str = "autoencoder"
    """The network's name."""
    model_options: dict[str, Any] = {}
    """What the network is built with; `bwpipe models NAME` lists it."""
    start: str | None = None
    """A checkpoint of the same network whose weights the training begins with, instead of random ones. Options that change no
    weights, such as `vividness`, may be others."""
    epochs: Count = 10
    """How often each picture is shown, times its weight."""
    batch: Count = 32
    """How many pictures make one step; what is left of an epoch, less than a batch, is left out."""
    accumulate: Count = 1
    """In how many parts a batch is worked through, one after another, to save memory; their gradients add up."""

    losses: Annotated[dict[str, float | dict[str, Any]], Field(min_length=1)] = {"rgb_mse": 1.0}
    """What is made small: losses by name, each with its weight, or with `weight` and options of its own."""
    optimiser: Literal["adam", "adamw"] = "adam"
    """Adam (Kingma and Ba 2015), or AdamW (Loshchilov and Hutter 2019), whose weight decay stands apart from its rate."""
    rate: Positive = 1e-3
    """The highest learning rate."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the rate goes on after the warm-up: as it is, or down to 0 along half a cosine."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Over how many steps the rate rises from 0."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of the optimiser; biases and the weights of norms are left alone."""
    clip: Positive | None = None
    """The longest that the gradient may be (its 2-norm): a longer one is made shorter."""
    average: Share = 0.0
    """How much of the moving average of the weights is kept at each step, such as 0.999; it is what is validated and saved.
    At 0 the weights are taken as they are."""
    frozen: Annotated[float, Field(ge=0)] = 0.0
    """For how many epochs the network's backbone is held still, if it has one."""
    backbone_rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of the rate that the backbone learns at afterwards; at 0 it is held still throughout."""

    augment: Augment = Augment()
    """How the pictures are changed each time they are shown."""
    damage: Degradation | None = None
    """How the grey that the network sees is made to look like old film, which the truth is not; `{}` for the usual damage."""
    shift: Annotated[int, Field(ge=0)] = 8
    """By up to how many pixels a second look is moved, where a loss compares two."""

    goal: str = "loss"
    """The figure of validation that chooses the best weights; `epoch` takes the last ones."""
    patience: Count | None = None
    """End after so many epochs in a row without a better figure."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    """Decides the first weights, the order of the pictures, and how they are augmented and damaged."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the products of weights (automatic mixed precision); weights, sums and losses are float32 always."""
    channels_last: bool = True
    """Keep the channels of a pixel side by side, which most devices like better."""
    device: NoEffect[str] = "auto"
    """Where to compute: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    devices: NoEffect[Count] = 1
    """How many devices share each batch, each in a process of its own; on a CPU, how many processes."""
    threads: NoEffect[Count | None] = None
    """How many threads a CPU computes with, shared by all processes; all cores by default."""
    keep: NoEffect[Annotated[float, Field(ge=0)]] = 300.0
    """Seconds after which the state of the training is kept again; it is kept after each epoch, too."""
