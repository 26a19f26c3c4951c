"""Layers of timm's encoders in a form that trains fast on a CPU; the names and shapes of the weights stay."""

from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FrozenDepthwise(nn.Module):
    """A depthwise convolution, padded as in TensorFlow, whose filters are never trained.

    On a CPU their gradient would take as long as all else in the encoder, though they are only a sixteenth of its weights.
    """

    weight: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        """Take the filters of a convolution with a stride of 1 or 2."""
        super().__init__()
        self.register_buffer("weight", conv.weight.detach())
        self.stride = conv.stride[0]
        self.padding = conv.kernel_size[0] // 2

    def forward(self, x: Tensor) -> Tensor:
        """From (B, C, H, W) to (B, C, H / stride, W / stride), rounded up."""
        channels = len(self.weight)
        if self.stride == 1:
            return F.conv2d(x, self.weight, padding=self.padding, groups=channels)
        ends = [side % 2 for side in x.shape[-2:]]
        if x.requires_grad:  # same result, but on a CPU the gradient is several times faster with a stride of 1
            rows, columns = (1 - end for end in ends)
            return F.conv2d(x, self.weight, padding=self.padding, groups=channels)[..., rows::2, columns::2]
        around = [self.padding - 1 + end for end in reversed(ends) for end in (end, 1)]
        return F.conv2d(F.pad(x, around), self.weight, stride=2, groups=channels)


def freeze_depthwise(encoder: nn.Module) -> nn.Module:
    """Replace an encoder's depthwise convolutions by frozen ones."""
    for parent in list(encoder.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d) and conv.groups > 1:
                setattr(parent, name, FrozenDepthwise(conv))
    return encoder


class FoldedConv(nn.Module):
    """A convolution without bias, padded as in TensorFlow, with the norm after it, whose statistics stay.

    The norm is then one scale and one shift for each channel, and the filters are scaled instead of the feature maps.
    """

    def __init__(self, conv: nn.Conv2d, norm: "NormActivation") -> None:
        """Take the filters of a convolution with a stride of 1 or 2, and read the scales of the norm at each call."""
        super().__init__()
        self.weight = conv.weight
        self.stride, self.groups = conv.stride[0], conv.groups
        self._norm = (norm,)  # not registered as a module: the weights keep their names

    def forward(self, x: Tensor) -> Tensor:
        """From (B, C, H, W) to (B, D, H / stride, W / stride), rounded up."""
        weight, bias = self._folded()
        if self.groups == 1 or x.device.type != "cpu" or not torch.is_grad_enabled():
            return _convolve(x, weight, bias, self.stride, self.groups)
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x, weight, bias = (each.to(torch.get_autocast_dtype(device)) for each in (x, weight, bias))
        output: Tensor = DepthwiseConv.apply(x, weight, bias, self.stride)
        return output

    def _folded(self) -> tuple[Tensor, Tensor]:
        """The filters and the bias that do what the convolution and its norm do; rounded once if the weights are 16-bit."""
        (norm,) = self._norm
        scale = norm.weight.float() * (norm.running_var.float() + norm.eps).rsqrt()
        weight, bias = self.weight.float() * scale.view(-1, 1, 1, 1), norm.bias.float() - norm.running_mean.float() * scale
        return weight.to(self.weight.dtype), bias.to(self.weight.dtype)


class NormActivation(nn.Module):
    """The activation after a norm that is folded into the convolution before it; it keeps the norm's weights."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: Any) -> None:
        """Take the weights and the activation of timm's `BatchNormAct2d`."""
        super().__init__()
        self.weight, self.bias, self.eps, self.act = norm.weight, norm.bias, norm.eps, norm.act
        for name, values in norm.named_buffers():
            self.register_buffer(name, values)

    def forward(self, x: Tensor) -> Tensor:
        """Activate (B, C, H, W)."""
        activated: Tensor = self.act(x)
        return activated


class DepthwiseConv(torch.autograd.Function):
    """A depthwise convolution whose gradients are fast on a CPU, too.

    There, those with a stride of 2 take several times as long as those with a stride of 1, and those of 5 x 5 filters 3 to 40
    times as long as those of four times 3 x 3, their corners.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        """Convolve (B, C, H, W) with filters (C, 1, k, k), k = 3 or 5, and add a bias (C,)."""
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _convolve(x, weight, bias, stride, len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """The gradients of input, filters and bias."""
        x, weight = ctx.saved_tensors
        side = weight.shape[-1]
        if ctx.stride == 2:
            rows, columns = (1 - length % 2 for length in x.shape[-2:])
            strided, grad = grad, torch.zeros_like(x, memory_format=torch.channels_last)
            grad[..., rows::2, columns::2] = strided
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_x = F.conv2d(grad, weight.flip(2, 3), padding=side // 2, groups=len(weight)) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return of_x, None, None, None
        if side == 3:
            return of_x, *_filter_gradients(grad, x, weight, side // 2), None
        padded, of_weight = F.pad(x, (2, 2, 2, 2)), torch.empty_like(weight)
        height, width = (length + 2 for length in x.shape[-2:])
        for row, column in product((0, 2), repeat=2):
            part = padded[..., row : row + height, column : column + width].contiguous(memory_format=torch.channels_last)
            corner = (..., slice(row, row + 3), slice(column, column + 3))
            of_weight[corner], of_bias = _filter_gradients(grad, part, weight[corner].contiguous(), 0)
        return of_x, of_weight, of_bias, None


def fold_norms(encoder: nn.Module) -> nn.Module:
    """Fold an encoder's norms into its convolutions, so that all its filters can be trained."""
    for parent in list(encoder.modules()):
        conv: tuple[str, nn.Conv2d] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                conv = name, child
            elif isinstance(child, nn.BatchNorm2d) and conv:
                activation = NormActivation(child)
                setattr(parent, conv[0], FoldedConv(conv[1], activation))
                setattr(parent, name, activation)
                conv = None
    return encoder


def _convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: int, groups: int) -> Tensor:
    """A convolution with a stride of 1 or 2, padded as in TensorFlow."""
    padding = weight.shape[-1] // 2
    if stride == 1:
        return F.conv2d(x, weight, bias, padding=padding, groups=groups)
    around = [padding - 1 + end for side in reversed(x.shape[-2:]) for end in (side % 2, 1)]
    return F.conv2d(F.pad(x, around), weight, bias, stride=2, groups=groups)


def _filter_gradients(grad: Tensor, x: Tensor, weight: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """The gradients of the filters (C, 1, k, k) and of the bias (C,) of a depthwise convolution."""
    count, around = len(weight), [padding, padding]
    _, of_weight, of_bias = torch.ops.aten.convolution_backward(
        grad, x, weight, [count], [1, 1], around, [1, 1], False, [0, 0], count, [False, True, True]
    )
    return of_weight, of_bias
