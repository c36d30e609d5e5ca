"""Colourless and smoothed training crops."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from detector.training.augment import AugmentConfig, apply_distortion, draw_distortion, smoothed


def crops(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_smoothing_is_opencvs_binomial_filter() -> None:
    picture = crops(1)[0].permute(1, 2, 0).numpy().astype(np.float32)
    taps = np.array([1, 4, 6, 4, 1], np.float32) / 16
    expected = cv2.sepFilter2D(picture, -1, taps, taps, borderType=cv2.BORDER_REPLICATE)
    found = smoothed(torch.from_numpy(picture).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_all_grey_has_no_colour_and_the_same_light() -> None:
    x = crops(4)
    amounts = draw_distortion(len(x), AugmentConfig(grey=1, brightness=0, contrast=0), torch.Generator().manual_seed(0))
    grey = apply_distortion(x, amounts)
    torch.testing.assert_close(grey, x.float().mean(1, keepdim=True).expand(-1, 3, -1, -1), atol=1e-3, rtol=0)


def test_the_asked_share_is_grey() -> None:
    found = apply_distortion(
        crops(400), draw_distortion(400, AugmentConfig(grey=0.25), torch.Generator().manual_seed(1))
    )
    grey = (found.amax(1) - found.amin(1)).amax((1, 2)) < 1e-3
    assert 70 <= int(grey.sum()) <= 130


def test_sharpness_runs_from_smooth_to_sharpened() -> None:
    x = crops(64) // 4 + 96  # far from both ends, so that nothing is cut off
    config = AugmentConfig(sharpness=1, brightness=0, contrast=0, saturation=0, hue_shift=0)
    amounts = draw_distortion(64, config, torch.Generator().manual_seed(2))
    assert amounts.sharpness is not None
    assert 0 <= amounts.sharpness.min() < 0.2
    assert 1.8 < amounts.sharpness.max() <= 2
    found, base = apply_distortion(x, amounts), smoothed(x.float())
    torch.testing.assert_close(found, base + amounts.sharpness * (x - base), atol=1e-3, rtol=0)


def test_parts_of_a_batch_are_those_of_the_whole() -> None:
    amounts = draw_distortion(6, AugmentConfig(grey=0.5, sharpness=1), torch.Generator().manual_seed(3))
    whole = apply_distortion(crops(6), amounts)
    torch.testing.assert_close(whole[2:5], apply_distortion(crops(6)[2:5], amounts.part(slice(2, 5))))


def test_they_do_not_change_what_else_is_drawn() -> None:
    plain = draw_distortion(8, AugmentConfig(), torch.Generator().manual_seed(4))
    more = draw_distortion(8, AugmentConfig(sharpness=1), torch.Generator().manual_seed(4))
    for a, b in zip(plain[:4], more[:4], strict=True):
        torch.testing.assert_close(a, b)
    assert plain.sharpness is None
