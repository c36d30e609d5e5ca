"""Photometric distortions of training crops."""

from __future__ import annotations

import torch

from detector.training.augment import AugmentConfig, apply_distortion, draw_distortion


def crops(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_nothing_drawn_is_nothing_changed() -> None:
    x = crops(4)
    still = AugmentConfig(brightness=0, contrast=0, saturation=0, hue_shift=0)
    amounts = draw_distortion(len(x), still, torch.Generator().manual_seed(0))
    torch.testing.assert_close(apply_distortion(x, amounts), x.float(), atol=1e-3, rtol=0)


def test_parts_of_a_batch_are_those_of_the_whole() -> None:
    amounts = draw_distortion(6, AugmentConfig(), torch.Generator().manual_seed(3))
    whole = apply_distortion(crops(6), amounts)
    torch.testing.assert_close(whole[2:5], apply_distortion(crops(6)[2:5], amounts.part(slice(2, 5))))
    assert not torch.equal(whole, crops(6).float())
