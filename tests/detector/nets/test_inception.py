"""The pooling of Inception modules against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import max_pool2d

from detector.nets.inception import SamePool


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 5, 1, 7), (2, 8, 7, 1), (3, 4, 6, 5), (1, 2, 2, 2), (0, 4, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pooling_is_pytorchs(shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).relu().to(dtype)
    x = x.contiguous(memory_format=layout)
    with torch.inference_mode():
        pooled = SamePool()(x)
    assert torch.equal(pooled, max_pool2d(x, 3, 1, 1) if len(x) else x)
    assert pooled.is_contiguous(memory_format=layout)


def test_pooling_has_pytorchs_gradient() -> None:
    x = torch.rand(2, 3, 5, 4, requires_grad=True)
    SamePool()(x).square().sum().backward()
    mine, x.grad = x.grad, None
    max_pool2d(x, 3, 1, 1).square().sum().backward()
    assert torch.equal(mine, x.grad)
