"""Pictures are converted strip by strip, large ones read smaller, and written whole, without a pixel out of place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, noise, picture, turned
from PIL import Image

from detector.images.pixels import write_picture
from detector.images.read import ORDINARY_PIXELS, read_image, read_image_reduced, read_image_size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_strips_join(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(picture(), exif=turned(orientation))
    whole = read_image(data)
    for pixels in (1, 17, 34, 50):  # a strip has at least a row of 17
        monkeypatch.setattr("detector.images.pixels._STRIP", pixels)
        found = read_image(data)
        np.testing.assert_array_equal(found, whole)
        assert found.flags.c_contiguous
        assert found.flags.writeable


def modes() -> dict[str, bytes]:
    rgb = Image.fromarray(picture())
    values = np.linspace(-3, 70_000, 12 * 17).reshape(12, 17)
    alpha = Image.fromarray(np.dstack([picture(), picture()[..., :1]]))
    return {
        "1": encoded(rgb.convert("1"), "PNG"),
        "L": encoded(rgb.convert("L"), "PNG"),
        "LA": encoded(alpha.convert("LA"), "PNG"),
        "P": encoded(rgb.quantize(8), "PNG", transparency=3),
        "RGBA": encoded(alpha, "PNG"),
        "CMYK": encoded(rgb.convert("CMYK"), "TIFF"),
        "I;16": encoded(values.clip(0, 65535).astype(np.uint16)),
        "I;16B": encoded(values.clip(0, 65535).astype(np.uint16), "TIFF"),
        "I": encoded(values.astype(np.int32), "TIFF"),
        "F": encoded(values.astype(np.float32), "TIFF"),
        "GIF": encoded(rgb.quantize(8), "GIF"),
    }


@pytest.mark.parametrize("mode", modes())
def test_strips_of_every_mode_join(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = modes()[mode]
    whole = read_image(data)
    monkeypatch.setattr("detector.images.pixels._STRIP", 40)
    np.testing.assert_array_equal(read_image(data), whole)


@pytest.mark.parametrize("orientation", [1, 2, 6])
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(("ordinary", "factor"), [(32 * 48, 1), (32 * 48 - 1, 2), (100, 4), (1, 64)])
def test_large_pictures_are_read_smaller(format_name: str, orientation: int, ordinary: int, factor: int) -> None:
    smooth = np.linspace(20, 200, 48)[None, :, None].repeat(32, 0).repeat(3, 2)
    data = encoded(smooth.astype(np.uint8), format_name, exif=turned(orientation), quality=95)
    whole = read_image(data)
    found, size = read_image_reduced(data, ordinary=ordinary)
    assert size == whole.shape[:2] == read_image_size(data)
    assert found.shape == (-(-size[0] // factor), -(-size[1] // factor), 3)
    if factor == 1:
        np.testing.assert_array_equal(found, whole)
    elif factor < 32:  # all of it divides
        height, width = (size[0] // factor, size[1] // factor)
        means = whole[: height * factor, : width * factor].reshape(height, factor, width, factor, 3).mean((1, 3))
        assert np.abs(found[:height, :width] - means).max() < 12


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (17, 13), (901, 1)])
@pytest.mark.parametrize("format_name", ["JPEG", "PNG"])
@pytest.mark.parametrize("ordinary", [1, 2, 50])
def test_the_sides_of_a_smaller_copy_round_up(size: tuple[int, int], format_name: str, ordinary: int) -> None:
    found, stored = read_image_reduced(encoded(Image.new("RGB", size), format_name), ordinary=ordinary)
    assert stored == size[::-1]
    factors = [2**i for i in range(12) if found.shape[:2] == (-(-size[1] // 2**i), -(-size[0] // 2**i))]
    assert factors
    assert found.shape[0] * found.shape[1] <= ordinary


def test_ordinary_photographs_are_read_as_they_are() -> None:
    data = encoded(picture(), "JPEG")
    np.testing.assert_array_equal(read_image_reduced(data)[0], read_image(data))
    assert 60_000_000 < ORDINARY_PIXELS < 100_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in other units elsewhere")
@pytest.mark.parametrize(("reader", "most"), [("read_image", 900), ("read_image_reduced", 300)])
def test_the_memory_that_a_photograph_takes(tmp_path: Path, reader: str, most: int) -> None:
    """In megabytes, of 12000 x 9000 pixels: Pillow's four bytes a pixel, three of the result, and little else."""
    path = tmp_path / "large.jpg"
    Image.new("RGB", (12000, 9000), (10, 100, 200)).save(path)
    code = (
        "import sys\n"
        f"from detector.images.read import {reader}\n"
        "def peak():\n"
        "    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "before = peak()\n"
        f"{reader}(sys.argv[1])\n"
        "print((peak() - before) / 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) < most


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "format", "most"), [("a.jpg", "JPEG", 60), ("a.b.png", "PNG", 0)])
def test_a_picture(tmp_path: Path, name: str, format: str, most: int) -> None:
    write_picture(tmp_path / name, noise())
    with Image.open(tmp_path / name) as image:
        assert image.format == format
        assert np.abs(np.asarray(image, np.int64) - noise()).mean() <= most


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_full_disk_is_an_error_and_leaves_no_half_of_a_picture(tmp_path: Path, name: str) -> None:
    """Pillow writes half a JPEG in silence."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_picture(tmp_path / name, noise())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
