"""Pictures are written whole, or an error says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.images.pixels import write_picture

NOISE = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)


@pytest.mark.parametrize(("name", "format", "most"), [("a.jpg", "JPEG", 60), ("a.b.png", "PNG", 0)])
def test_a_picture(tmp_path: Path, name: str, format: str, most: int) -> None:
    write_picture(tmp_path / name, NOISE)
    with Image.open(tmp_path / name) as image:
        assert image.format == format
        assert np.abs(np.asarray(image, np.int64) - NOISE).mean() <= most


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_full_disk_is_an_error_and_leaves_no_half_of_a_picture(tmp_path: Path, name: str) -> None:
    """Pillow writes half a JPEG in silence."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_picture(tmp_path / name, NOISE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
