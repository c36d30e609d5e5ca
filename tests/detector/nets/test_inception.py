"""The pooling of Inception networks against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import max_pool2d

from detector.nets.inception import Pool

DTYPES = [torch.uint8, torch.bfloat16, torch.float16, torch.float32, torch.float64]


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 5, 1, 7), (2, 8, 7, 1), (3, 4, 6, 5), (1, 2, 2, 2), (0, 4, 3, 3)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pooling_that_keeps_the_shape_is_pytorchs(
    shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    x = positive(shape, dtype).contiguous(memory_format=layout)
    with torch.inference_mode():
        pooled = Pool(3, 1)(x)
    assert torch.equal(pooled, max_pool2d(x.double(), 3, 1, 1).to(dtype) if len(x) else x)
    assert pooled.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("shape", [(1, 3, 2, 2), (2, 5, 3, 7), (2, 8, 8, 3), (3, 4, 6, 5), (1, 2, 15, 16)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", [2, 3])
def test_pooling_that_halves_is_pytorchs(shape: tuple[int, ...], dtype: torch.dtype, kernel: int) -> None:
    x = positive(shape, dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        pooled = Pool(kernel, 2)(x)
    assert torch.equal(pooled, max_pool2d(x.double(), kernel, 2, ceil_mode=True).to(dtype))


@pytest.mark.parametrize("stride", [1, 2])
def test_pooling_has_pytorchs_gradient(stride: int) -> None:
    x = torch.rand(2, 3, 5, 4, requires_grad=True)
    Pool(3, stride)(x).square().sum().backward()
    mine, x.grad = x.grad, None
    max_pool2d(x, 3, stride, 2 - stride, ceil_mode=True).square().sum().backward()
    assert torch.equal(mine, x.grad)


def positive(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).relu()
    return (100 * x).to(dtype)
