"""Loops over maps against PyTorch's own operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from detector.nets.kernels import can_gather, has_bits, normalize_responses, to_bytes, weighted_rows

FORMATS = [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)]


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return 300 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("dtype", "tolerance"), FORMATS)
@pytest.mark.parametrize("shape", [(2, 64, 5, 3), (1, 3, 1, 1), (0, 8, 4, 4)])
def test_responses_are_normalised_as_pytorch_does_it(
    shape: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    x = values(*shape).to(dtype)
    found = normalize_responses(x, (1e-4 / 5) ** 0.5)
    assert found.dtype == dtype
    expected = F.local_response_norm(x.double(), 5) if len(x) else x.double()
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=0)


@given(st.integers(0, 10_000))
def test_values_become_the_nearest_bytes(seed: int) -> None:
    x, scale = values(2, 5, 3, 4, seed=seed), torch.linspace(0.5, 3, 5)
    found = to_bytes(x, 1 / scale)
    exact = x.double() / scale.double().view(1, 5, 1, 1)
    assert found.dtype == torch.uint8
    assert (found.double() - exact.clamp(max=255)).abs().max() <= 0.5 + 1e-4
    assert torch.equal(to_bytes(x.contiguous(memory_format=torch.channels_last), 1 / scale), found)


@pytest.mark.parametrize(("dtype", "tolerance"), FORMATS)
def test_weighted_rows_are_pytorchs_bags(dtype: torch.dtype, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    rows = values(30, 7)
    places = torch.from_numpy(rng.integers(0, 30, (11, 16)))
    weights = torch.from_numpy(rng.random((11, 16), np.float32))
    weights[3] = 0
    found = weighted_rows(rows, places, weights, dtype)
    assert found.dtype == dtype
    expected = F.embedding_bag(places, rows, per_sample_weights=weights, mode="sum")
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=1e-4)
    assert weighted_rows(rows, places[:0], weights[:0], dtype).shape == (0, 7)


def test_what_needs_a_gradient_or_is_of_another_type_is_left_to_pytorch() -> None:
    x = torch.rand(1, 4, 2, 2)
    assert has_bits(x)
    assert has_bits(x.bfloat16())
    assert not has_bits(x.half())
    assert not has_bits(x.double())
    assert not has_bits(x.requires_grad_())
    rows = torch.rand(4, 3)
    assert can_gather(rows, torch.bfloat16)
    assert not can_gather(rows, torch.float16)
    assert not can_gather(rows.requires_grad_(), torch.bfloat16)
