"""A JPEG that lacks only its end marker is read; one that lacks more is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import encoded, noise, turned
from PIL import Image

from detector.images.read import read_image, read_image_reduced
from proposals.errors import UserError


def jpegs() -> dict[str, bytes]:
    """Small pictures in the several ways that JPEG has to store them."""
    blocks = noise(8, 10).repeat(5, 0).repeat(5, 1)
    ways: dict[str, dict[str, Any]] = {
        "plain": {},
        "progressive": {"progressive": True},
        "optimized": {"optimize": True},
        "full colour": {"subsampling": 0, "quality": 95},
        "restarts": {"restart_marker_rows": 1},
    }
    made = {name: encoded(blocks, "JPEG", **options) for name, options in ways.items()}
    made["flat, restarts"] = encoded(Image.new("RGB", (50, 90), (9, 99, 200)), "JPEG", restart_marker_rows=1)
    made["grey"] = encoded(blocks[..., 0], "JPEG", progressive=True)
    made["CMYK"] = encoded(Image.fromarray(blocks).convert("CMYK"), "JPEG")
    return made


@pytest.mark.parametrize("name", jpegs())
@pytest.mark.filterwarnings("ignore")
def test_a_jpeg_without_its_last_two_bytes_is_read(name: str, tmp_path: Path) -> None:
    data = jpegs()[name]
    expected = read_image(data)
    path = tmp_path / "a.jpg"
    for cut in (1, 2):
        path.write_bytes(data[:-cut])
        for source in (path, data[:-cut]):
            np.testing.assert_array_equal(read_image(source), expected)
            np.testing.assert_array_equal(read_image_reduced(source)[0], expected)


@pytest.mark.parametrize("name", jpegs())
@pytest.mark.filterwarnings("ignore")
def test_no_pixel_of_a_cut_jpeg_is_made_up(name: str) -> None:
    """Wherever it is cut, it is refused, or all of it was there."""
    data = jpegs()[name]
    expected = read_image(data)
    for cut in range(3, len(data)):
        try:
            found = read_image(data[:-cut])
        except UserError:
            continue
        np.testing.assert_array_equal(found, expected)


def test_the_turn_of_a_jpeg_without_its_end_is_kept() -> None:
    data = encoded(noise(10, 20), "JPEG", exif=turned(6))
    np.testing.assert_array_equal(read_image(data[:-2]), read_image(data))
