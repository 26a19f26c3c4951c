"""Layers of encoders that train fast on a CPU."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from bwpipe.nn.encoder_layers import DepthwiseConv


@pytest.mark.parametrize(
    ("side", "stride", "size"), [(3, 1, (9, 7)), (5, 1, (9, 8)), (3, 2, (8, 9)), (5, 2, (8, 9)), (5, 2, (7, 6))]
)
def test_gradients_of_depthwise_filters_are_those_of_a_convolution(side: int, stride: int, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    x, weight, bias = (
        torch.randn(shape, generator=generator).requires_grad_() for shape in ((2, 4, *size), (4, 1, side, side), (4,))
    )
    padding = side // 2
    around = [padding - 1 + end for length in reversed(size) for end in (length % 2, 1)] if stride == 2 else [padding] * 4
    output = F.conv2d(F.pad(x, around), weight, bias, stride=stride, groups=4)
    toward = torch.randn(output.shape, generator=generator)

    fast = DepthwiseConv.apply(x, weight, bias, stride)

    assert_close(fast, output)
    gradients = torch.autograd.grad(fast, (x, weight, bias), toward)
    for one, other in zip(gradients, torch.autograd.grad(output, (x, weight, bias), toward), strict=True):
        assert_close(one, other, atol=1e-4, rtol=1e-4)
