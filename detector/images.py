"""The one image reader: every picture that is trained on, evaluated on or detected in comes through here.

Whatever the file holds, the result is ``(H, W, 3)`` uint8 RGB, turned upright as its EXIF orientation says:

==================  ===================================================================================================
in the file         becomes
==================  ===================================================================================================
grey, 1-bit         three equal channels, black 0 and white 255
palette             its colours
alpha, transparent  laid over white (the page that most such pictures were drawn for)
CMYK                Pillow's plain conversion; colour profiles are not applied, to any picture
16 bits a channel   the high byte, so that 65535 is 255 (scaled, not clipped); a 12-bit TIFF by its own range
float, 32-bit int   values within 0..1 times 255; any other range stretched from its least to its greatest value
animated            the first frame
==================  ===================================================================================================

Only the formats of ``ALLOWED_FORMATS`` are tried. They are what cameras, phones, browsers, scanners and microscopes
write, and their decoders are the most fuzzed that Pillow has; the rest (PostScript, which starts another program,
icons, game textures, weather grids...) only widen what a hostile file can reach.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from proposals.errors import UserError

# Importing a plugin registers its format; the tuple keeps the imports from looking unused.
_PLUGINS = (
    JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin, BmpImagePlugin,
    TiffImagePlugin, GifImagePlugin, PpmImagePlugin, AvifImagePlugin,
)  # fmt: skip
ALLOWED_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")
SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif"),
    )
)
"""File name endings, in lower case, that are taken for pictures when a folder is searched."""

MAX_PIXELS = 200_000_000
"""Largest picture that is decoded: 600 MB as RGB, twice what a 100-megapixel camera makes."""

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]

_ORIENTATION_TAG = 0x0112
_BITS_PER_SAMPLE_TAG = 258
_PNG_TEXTS_WITH_ORIENTATION = (b"Raw profile type", b"XML:com.adobe.xmp")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(source: ImageSource, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The picture as RGB.

    Args:
        source: a path, the encoded bytes, or a binary file object (read to its end).
        name: what error messages call the picture; by default its path.
        max_pixels: a larger width times height is refused before anything is decoded.

    Returns:
        ``(H, W, 3)`` uint8 RGB, contiguous, writable, H and W at least 1.

    Raises:
        UserError: one line that names the picture and the remedy: missing, a folder, no permission, empty, not a
            picture of an allowed format, cut short or damaged, too large.
    """
    label = _label(source, name)
    with _opened(source, label, max_pixels) as image:
        try:
            image.load()
            if image.width * image.height > max_pixels:  # a GIF's frame may be larger than its screen
                raise _too_large(label, image.size, max_pixels)
            return _to_rgb(_upright(image), image)
        except UserError:
            raise
        except MemoryError:
            raise UserError(f"{label} does not fit in memory ({_size_text(image.size)}); make it smaller") from None
        except Exception as error:  # decoders of damaged files raise anything at all
            raise _damaged(label, error) from None


def read_image_size(source: ImageSource, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) that :func:`read_image` would give, from the file's header.

    The pixels are not decoded, so a file that is damaged after its header passes. (Only a PNG whose orientation stands
    behind its pixels is decoded.) Arguments and errors are those of :func:`read_image`.
    """
    label = _label(source, name)
    with _opened(source, label, max_pixels) as image:
        try:
            width, height = image.size
            # Pillow's TIFF reader has exchanged the sides already.
            if image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8):
                width, height = height, width
            return height, width
        except Exception as error:
            raise _damaged(label, error) from None


def read_orientation(source: ImageSource, *, name: str | None = None) -> int:
    """EXIF orientation 1 to 8 of a picture as it is stored; 1, upright, where it says none.

    Annotations made by a tool that does not know orientations are of the stored picture; from 5 on its sides are
    exchanged. Errors are those of :func:`read_image_size`.
    """
    label = _label(source, name)
    with _opened(source, label, MAX_PIXELS) as image:
        return _orientation(image)


# --- opening ----------------------------------------------------------------------------------------------------------


def _label(source: ImageSource, name: str | None) -> str:
    if name is None:
        if isinstance(source, (bytes, bytearray, memoryview)):
            return "the picture's data"
        found = getattr(source, "name", None) if hasattr(source, "read") else source
        name = os.fspath(found) if isinstance(found, (str, os.PathLike)) else "the picture's data"
    return name.replace("\n", "\\n").replace("\r", "\\r")


@contextlib.contextmanager
def _opened(source: ImageSource, label: str, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """The picture with its header read, closed at the end whatever happens."""
    with contextlib.ExitStack() as stack:
        if isinstance(source, (bytes, bytearray, memoryview)):
            file: IO[bytes] = io.BytesIO(source)
        elif isinstance(source, (str, os.PathLike)):
            file = stack.enter_context(_open_file(source, label))
        else:
            file = io.BytesIO(source.read())
        try:
            seekable = file.seekable()
            if not seekable:  # a pipe, as a shell's <(...) makes
                file = io.BytesIO(file.read())
            if not file.read(1):
                raise UserError(f"{label} is empty (0 bytes); copy it again or leave it out")
        except OSError as error:
            raise UserError(f"{label} cannot be read: {_reason(error)}; check the disk") from None
        image = _identify(file, label)
        stack.callback(image.close)
        if image.width < 1 or image.height < 1:
            raise UserError(f"{label} has no pixels ({_size_text(image.size)}); leave it out")
        if image.width * image.height > max_pixels:
            raise _too_large(label, image.size, max_pixels)
        yield image


def _open_file(path: str | os.PathLike[str], label: str) -> IO[bytes]:
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise UserError(f"{label} does not exist; check the path") from None
    except (IsADirectoryError, PermissionError) as error:  # Windows calls an opened folder a matter of permission
        if isinstance(error, IsADirectoryError) or Path(path).is_dir():
            raise UserError(f"{label} is a folder, not a picture; name the pictures in it") from None
        raise UserError(f"{label} may not be read; check its permissions and those of its folder") from None
    except NotADirectoryError:
        raise UserError(f"{label} does not exist: a part of its path is a file; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise UserError(f"{label} cannot be opened: {_reason(error)}; check the path") from None


def _identify(file: IO[bytes], label: str) -> ImageFile.ImageFile:
    # The loop of Image.open(file, formats=ALLOWED_FORMATS), without its pixel limit: that one is a global of the
    # process, warns on good 100-megapixel pictures, and can be changed by any other library.
    file.seek(0)
    prefix = file.read(16)
    damage: Exception | None = None
    for format_name in ALLOWED_FORMATS:
        factory, accept = Image.OPEN[format_name]
        accepted = accept(prefix) if accept else True
        if not accepted or isinstance(accepted, str):  # a string says why this build of Pillow cannot read it
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except Exception as error:  # as in read_image: a damaged header raises anything
            damage = error
    if damage is not None:
        raise _damaged(label, damage)
    allowed = ", ".join(ALLOWED_FORMATS)
    raise UserError(f"{label} is not a picture of a known format ({allowed}); convert it to JPEG or PNG")


def _damaged(label: str, error: Exception) -> UserError:
    return UserError(f"{label} is cut short or damaged ({_reason(error)}); copy it again or leave it out")


def _too_large(label: str, size: tuple[int, int], max_pixels: int) -> UserError:
    return UserError(f"{label} has {_size_text(size)}, more than the limit of {max_pixels:,} pixels; make it smaller")


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"


def _reason(error: Exception) -> str:
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return " ".join(text.split()) or type(error).__name__


# --- orientation ------------------------------------------------------------------------------------------------------


def _orientation(image: ImageFile.ImageFile) -> int:
    """EXIF orientation 1..8, by the header where that is possible; 1 if there is none or it is damaged."""
    try:
        if image.format == "PNG" and ("exif" in image.info or not _png_has_late_metadata(image.fp)):
            # PngImageFile.getexif would decode the whole picture in search of what stands behind the pixels.
            exif = Image.Image.getexif(image)
        else:
            exif = image.getexif()
        value = exif.get(_ORIENTATION_TAG, 1)
    except Exception:  # a damaged EXIF block is no reason to refuse good pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _png_has_late_metadata(file: Any) -> bool:
    """Whether something that may hold an orientation follows the pixels; the file's position is kept."""
    if file is None or file.closed:
        return True
    position = file.tell()
    seen_pixels = False
    try:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            length, kind = int.from_bytes(header[:4], "big"), header[4:]
            seen_pixels = seen_pixels or kind == b"IDAT"
            start = file.read(min(length, 20))
            if seen_pixels and (kind == b"eXIf" or start.startswith(_PNG_TEXTS_WITH_ORIENTATION)):
                return True
            if kind == b"IEND":
                return False
            file.seek(length - len(start) + 4, os.SEEK_CUR)
        return False
    finally:
        file.seek(position)


def _upright(image: ImageFile.ImageFile) -> Image.Image:
    turn = _TURNS.get(_orientation(image))  # 1 for a TIFF: Pillow has turned it while decoding
    return image if turn is None else image.transpose(turn)


# --- pixels -----------------------------------------------------------------------------------------------------------


def _to_rgb(image: Image.Image, file: ImageFile.ImageFile) -> NDArray[np.uint8]:
    """``(H, W, 3)`` uint8 of a decoded, upright picture in any of Pillow's modes; ``file`` is what it was read from."""
    if image.mode == "I" or image.mode == "F" or image.mode.startswith("I;16"):
        grey = _scaled_to_bytes(image, file)
        return np.ascontiguousarray(np.broadcast_to(grey[:, :, None], (*grey.shape, 3)))
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    return np.array(image.convert("RGB"))  # np.array copies: the result is writable


def _scaled_to_bytes(image: Image.Image, file: ImageFile.ImageFile) -> NDArray[np.uint8]:
    """``(H, W)`` uint8 of a grey picture with more than eight bits."""
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        bits = _bits_per_sample(file)
        return (values >> (bits - 8)).clip(0, 255).astype(np.uint8)
    if image.mode == "I" and file.format in ("PNG", "PPM"):  # 16 bits in Pillow's 32
        return (values >> 8).clip(0, 255).astype(np.uint8)
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        values = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.rint(values * 255).astype(np.uint8)


def _bits_per_sample(file: ImageFile.ImageFile) -> int:
    tags = getattr(file, "tag_v2", None)
    bits = tags.get(_BITS_PER_SAMPLE_TAG, (16,)) if tags is not None else (16,)
    first = bits[0] if isinstance(bits, tuple) else bits
    return first if first in range(9, 17) else 16
