"""The image reader: every mode and orientation becomes upright RGB, every bad file one clear line."""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import encoded, noise, picture, turned
from PIL import Image, ImageOps, features

from detector.images.read import (
    ALLOWED_FORMATS,
    MAX_PIXELS,
    SUFFIXES,
    read_image,
    read_image_size,
    read_orientation,
)
from proposals.errors import UserError


def assert_rgb(result: NDArray[np.uint8], height: int, width: int) -> None:
    assert result.shape == (height, width, 3)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    assert result.flags.writeable


@pytest.mark.parametrize("format_name", ALLOWED_FORMATS)
def test_each_allowed_format_is_read(format_name: str) -> None:
    if format_name == "AVIF" and not features.check("avif"):
        pytest.skip("this build of Pillow has no AVIF")
    image = Image.fromarray(picture()).quantize(16) if format_name == "GIF" else picture()
    data = encoded(image, format_name, **({"lossless": True} if format_name == "WEBP" else {}))
    result = read_image(data)
    assert_rgb(result, 12, 17)
    assert read_image_size(data) == (12, 17)
    tolerance = {"JPEG": 60, "AVIF": 60, "GIF": 80}.get(format_name, 0)
    assert np.abs(result.astype(int) - picture()).max() <= tolerance


def test_formats_off_the_list_are_refused() -> None:
    files = [encoded(picture(16, 16), name) for name in ("ICO", "TGA", "PCX", "SGI", "JPEG2000")]
    for data in (*files, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"):
        with pytest.raises(UserError, match="not an image of a known format"):
            read_image(data, name="a.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(format_name: str, orientation: int) -> None:
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(format_name, {})
    data = encoded(picture(), format_name, exif=turned(orientation), **options)
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 1),
    }
    expected = turns[orientation](picture())
    result = read_image(data)
    assert read_image_size(data) == result.shape[:2] == expected.shape[:2]
    assert read_orientation(data) == orientation
    assert np.abs(result.astype(int) - expected).max() <= (12 if format_name == "JPEG" else 0)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_png_orientation_behind_the_pixels_is_applied() -> None:
    data = encoded(picture())
    end = data.rindex(b"IEND") - 4
    late = data[:end] + png_chunk(b"eXIf", turned(6).tobytes()[6:]) + data[end:]
    assert read_image_size(data) == (12, 17)
    assert read_image_size(late) == (17, 12)
    text = data[:end] + png_chunk(b"tEXt", b"date:create\x002020") + data[end:]
    assert read_image_size(text) == (12, 17)
    np.testing.assert_array_equal(read_image(late), np.rot90(picture(), -1))


@pytest.mark.parametrize(
    "junk", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1" * 20]
)
def test_damaged_exif_does_not_cost_the_picture(junk: bytes) -> None:
    data = encoded(picture())
    start = data.index(b"IDAT") - 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow says that the block is damaged
        result = read_image(data[:start] + png_chunk(b"eXIf", junk[6:]) + data[start:])
    np.testing.assert_array_equal(result, picture())


def test_orientation_out_of_range_is_ignored() -> None:
    data = encoded(picture(), exif=turned(77))
    assert read_image_size(data) == (12, 17)
    np.testing.assert_array_equal(read_image(data), picture())


# --- modes ------------------------------------------------------------------------------------------------------------


def grey(values: Any) -> NDArray[np.int64]:
    """``(H, W)`` values, or a row of them, as three equal channels."""
    return np.atleast_2d(np.asarray(values, np.int64))[..., None].repeat(3, 2)


def twelve_bits(a: int, b: int, c: int, d: int) -> bytes:
    """A TIFF with a row of four grey pixels of 12 bits."""
    packed = b"".join(bytes((x >> 4, (x & 15) << 4 | y >> 8, y & 255)) for x, y in ((a, b), (c, d)))
    tags = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, len(packed))]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(packed)) + packed + directory + struct.pack("<I", 0)


def png(size: tuple[int, int], bits: int, pixels: bytes) -> bytes:
    """A PNG of colours, (width, height), with these bytes for pixels, right or wrong."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(pixels)) + png_chunk(b"IEND", b"")


def conversions() -> dict[str, tuple[bytes, Any]]:
    """By what is in the file: its bytes, and what they become."""
    rgb, wide = picture(), np.linspace(0, 65535, 12 * 17).round().astype(np.uint16).reshape(12, 17)
    paletted = Image.fromarray(rgb).quantize(8)
    alpha = np.repeat([0, 128, 255], [102, 34, 68]).reshape(12, 17, 1)
    two = Image.new("P", (2, 1), 1)
    two.putpalette([0, 0, 0, 200, 30, 40])
    two.putpixel((0, 0), 0)
    white, clear = np.full((4, 4, 3), 255), [[[255, 255, 255], [200, 30, 40]]]
    red_ink = Image.merge("CMYK", [Image.new("L", (16, 16), v) for v in (0, 255, 255, 0)])
    floats = {
        "the usual range": ([0.0, 0.5, 1.0], [0, 128, 255]),
        "inside it: not stretched": ([0.2, 0.4, 0.6], [51, 102, 153]),
        "any other range: stretched": ([-10.0, 0.0, 10.0], [0, 128, 255]),
        "flat": ([1000.0, 1000.0, 1000.0], [0, 0, 0]),
        "not a number": ([np.nan, 0.0, 1.0], [0, 0, 255]),
        "infinite": ([np.inf, -np.inf, 1.0], [0, 0, 255]),
    }
    return {
        "grey": (encoded(rgb[..., 2]), grey(rgb[..., 2])),
        "one bit": (encoded(rgb[..., 2] > 127), grey(np.where(rgb[..., 2] > 127, 255, 0))),
        "palette": (encoded(paletted), np.asarray(paletted.convert("RGB"))),
        "alpha": (encoded(np.dstack([rgb, alpha.astype(np.uint8)])), (rgb * (alpha / 255) + 255 - alpha).round()),
        "grey and alpha": (encoded(Image.new("LA", (4, 4), (10, 0))), white),
        "a transparent colour of a palette": (encoded(two, transparency=0), np.array(clear)),
        "alpha for each colour of a palette": (encoded(two, transparency=b"\x00\xff"), np.array(clear)),
        "a transparent colour": (encoded(Image.new("RGB", (4, 4), (9, 8, 7)), transparency=(9, 8, 7)), white),
        **{f"CMYK, {name}": (encoded(red_ink, name), np.tile([255, 0, 0], (16, 16, 1))) for name in ("TIFF", "JPEG")},
        **{f"16 bits, {name}": (encoded(wide, name), grey(wide >> 8)) for name in ("PNG", "TIFF", "PPM")},
        "16 bits of colour": (png((3, 3), 16, (b"\0" + b"\xab\xcd" * 9) * 3), np.full((3, 3, 3), 0xAB)),
        "12 bits": (twelve_bits(0, 4095, 2048, 1024), grey([0, 255, 128, 64])),
        "32 bits": (encoded(np.array([[-5, 0, 100_000]], np.int32), "TIFF"), grey([0, 0, 255])),
        **{f"float, {name}": (encoded(np.float32([v]), "TIFF"), grey(found)) for name, (v, found) in floats.items()},
    }


@pytest.mark.parametrize("name", conversions())
def test_what_a_picture_becomes(name: str) -> None:
    data, expected = conversions()[name]
    result = read_image(data)
    assert_rgb(result, *expected.shape[:2])
    assert np.abs(result.astype(int) - expected).max() <= {"CMYK, JPEG": 3, "alpha": 1}.get(name, 0)


@pytest.mark.parametrize("format_name", ["GIF", "MPO"])
def test_of_several_pictures_the_first_is_given(format_name: str) -> None:
    red, blue = Image.new("RGB", (16, 8), (255, 0, 0)), Image.new("RGB", (16, 8), (0, 0, 255))
    result = read_image(encoded(red, format_name, save_all=True, append_images=[blue]))
    assert_rgb(result, 8, 16)
    assert result[0, 0, 0] > 240 > 20 > result[0, 0, 2]


@pytest.mark.parametrize("size", [(1, 1), (20000, 2), (2, 20000)])
def test_extreme_sizes(size: tuple[int, int]) -> None:
    data = encoded(Image.new("RGB", size, (1, 2, 3)))
    assert_rgb(read_image(data), size[1], size[0])


def test_from_path_text_bytes_and_file_objects(tmp_path: Path) -> None:
    path = tmp_path / "с пробелом é.png"
    Image.fromarray(picture()).save(path)
    data = path.read_bytes()
    with path.open("rb") as file:
        for source in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), file):
            np.testing.assert_array_equal(read_image(source), picture())
            if hasattr(source, "seek"):
                source.seek(0)
            assert read_image_size(source) == (12, 17)


def test_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture()).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        read_image(path)
        read_image_size(path)
    path.write_bytes(b"GIF89a")
    with pytest.raises(UserError):
        read_image(path)
    path.unlink()


# --- faults -----------------------------------------------------------------------------------------------------------


def fault(path: Path | str) -> str:
    """The message for a bad picture, checked to be one line."""
    with pytest.raises(UserError) as caught:
        read_image(path)
    message = str(caught.value)
    assert "\n" not in message
    if isinstance(path, Path):
        assert str(path) in message
    return message


def test_missing_folder_empty_and_text(tmp_path: Path) -> None:
    assert "does not exist" in fault(tmp_path / "none.jpg")
    assert "is a folder" in fault(tmp_path)
    (tmp_path / "empty.jpg").touch()
    assert "is empty" in fault(tmp_path / "empty.jpg")
    text = tmp_path / "text.jpg"
    text.write_text("I am not a picture, though my name says so.")
    assert "not an image of a known format" in fault(text)
    assert "does not exist" in fault(text / "inside.jpg")
    with pytest.raises(UserError, match="does not exist"):
        read_image_size(tmp_path / "none.jpg")
    assert "cannot be opened" in fault("a\0b.jpg")
    assert re.search("cannot be opened|does not exist", fault("x" * 5000 + ".jpg"))
    assert "does not exist" in fault("no\nsuch.jpg")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    Image.fromarray(picture()).save(path)
    path.chmod(0)
    if os.geteuid() == 0:  # root may read everything: ask as another user
        tmp_path.chmod(0o755)
        code = (
            "import os, sys; from detector.images.read import read_image; from proposals.errors import UserError\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "try: read_image(sys.argv[1])\n"
            "except UserError as error: print(error)"
        )
        for parent in tmp_path.parents:
            if parent.stat().st_uid == 0 and parent.is_relative_to(Path("/tmp") / "pytest-of-root"):
                parent.chmod(parent.stat().st_mode | 0o011)
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        message = done.stdout.strip()
    else:
        message = fault(path)
    assert message == f"{path} may not be read; check its permissions and those of its folder"


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_name_the_file(tmp_path: Path, format_name: str, share: float) -> None:
    data = encoded(noise(), format_name)
    path = tmp_path / f"cut.{format_name.lower()}"
    path.write_bytes(data[: int(len(data) * share)])
    assert "cut short or damaged" in fault(path)


def test_decompression_bomb_is_refused_by_its_header() -> None:
    for reader in (read_image, read_image_size):
        with pytest.raises(UserError, match=r"60000 x 60000 pixels, more than the limit of 200,000,000"):
            reader(png((60000, 60000), 8, bytes(100)))


def test_pictures_of_more_than_a_hundred_megapixels_pass() -> None:
    assert MAX_PIXELS > 150_000_000
    # Pillow's own limit would warn here, and warnings are errors in these tests.
    assert read_image_size(png((15000, 11000), 8, bytes(100))) == (11000, 15000)
    with pytest.raises(UserError, match="cut short"):
        read_image(png((15000, 11000), 8, bytes(100)))


def test_the_limit_is_exact_and_can_be_set() -> None:
    data = encoded(picture())
    assert read_image(data, max_pixels=12 * 17).shape == (12, 17, 3)
    with pytest.raises(UserError, match="17 x 12 pixels"):
        read_image(data, max_pixels=12 * 17 - 1)


def test_suffixes_cover_what_pillow_writes_for_the_allowed_formats() -> None:
    extensions = Image.registered_extensions()
    assert {s for s, name in extensions.items() if name in ALLOWED_FORMATS} - SUFFIXES <= {".apng", ".dib", ".avifs"}


def test_agrees_with_plain_pillow_on_photographs() -> None:
    from skimage import data as samples

    for picture_array in (samples.astronaut(), samples.camera()):
        jpeg = encoded(Image.fromarray(picture_array), "JPEG")
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg))).convert("RGB"))
        np.testing.assert_array_equal(read_image(jpeg), expected)


# --- noise ------------------------------------------------------------------------------------------------------------


def test_nothing_is_written_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff writes past Python; Pillow has a logger."""
    rng = np.random.default_rng(0)
    for compression, mode in (("tiff_lzw", "RGB"), ("tiff_adobe_deflate", "RGB"), ("group4", "1")):
        good = encoded(Image.fromarray(picture()).convert(mode), "TIFF", compression=compression)
        for trial in range(60):
            data = bytearray(good)
            for position in rng.integers(0, len(data), 1 + trial % 8):
                data[position] = rng.integers(256)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with contextlib.suppress(UserError):
                    read_image(bytes(data), max_pixels=100_000)
    assert capfd.readouterr() == ("", "")
