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
import ctypes
import io
import logging
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
    _imaging,
)

from detector.images.pixels import upright_rgb
from proposals.errors import UserError

# What is wrong with a picture is told by its UserError; Pillow's logger is quiet unless the program listens to it.
# So is libtiff, which writes to standard error past Python, where it is not linked into Pillow, as it is on Windows.
with contextlib.suppress(AttributeError, OSError, TypeError):
    for _name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        _set_handler = getattr(ctypes.CDLL(_imaging.__file__), _name)
        _set_handler.argtypes, _set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        _set_handler(None)
logging.getLogger("PIL").addHandler(logging.NullHandler())

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

ORDINARY_PIXELS = 64_000_000
"""Detection reads larger pictures smaller; see :func:`read_image_reduced`."""

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
AnyImage: TypeAlias = NDArray[np.uint8] | Image.Image | ImageSource

_ORIENTATION_TAG = 0x0112
_PNG_TEXTS_WITH_ORIENTATION = (b"Raw profile type", b"XML:com.adobe.xmp")


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
    return _read(source, name, max_pixels, None)[0]


def as_image(image: AnyImage) -> NDArray[np.uint8]:
    """An image in any form as ``(H, W, 3)`` uint8 RGB.

    Args:
        image: such an array, which is returned itself; a PIL image, turned as its EXIF orientation says; or what
            :func:`read_image` takes.

    Raises:
        ValueError: another array, or no image at all. UserError: as for :func:`read_image`.
    """
    if isinstance(image, Image.Image):
        try:
            image.load()
        except OSError as error:
            raise _damaged("the image", error) from None
        return upright_rgb(image, _orientation(image))
    if not isinstance(image, np.ndarray):
        if isinstance(image, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(image, "read"):
            return read_image(image)
    elif image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise ValueError(f"an image must be a (H, W, 3) uint8 RGB array, a PIL image, a path, bytes or a file, not {found}")


def read_image_reduced(
    source: ImageSource, *, name: str | None = None, max_pixels: int = MAX_PIXELS, ordinary: int = ORDINARY_PIXELS
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The picture as RGB, or a smaller copy of one that would take much memory, and its own (height, width).

    A picture of more than ``ordinary`` pixels is halved in both directions until it has no more: ``H`` and ``W`` are
    its sides divided by 2, 4, 8..., rounded up. Arguments and errors are otherwise those of :func:`read_image`.
    """
    return _read(source, name, max_pixels, ordinary)


def _read(
    source: ImageSource, name: str | None, max_pixels: int, ordinary: int | None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    label = _label(source, name)
    with _opened(source, label, max_pixels) as (image, file):
        try:
            width, height = image.size
            factor = _reduction(width, height, ordinary)
            if factor > 1:  # a JPEG can be decoded at an eighth, a quarter or half of its size
                image.draft(None, (max(1, width // factor), max(1, height // factor)))
            decoded = round(width / image.width)
            image.load()
            if image.width * image.height > max_pixels:  # a GIF's frame may be larger than its screen
                raise _too_large(label, image.size, max_pixels)
            orientation = _orientation(image)  # 1 for a TIFF: Pillow has turned it while decoding
            if decoded == 1:  # only now the sides are certain
                width, height = image.size
            size = (width, height) if orientation >= 5 else (height, width)
            return upright_rgb(image, orientation, max(1, factor // decoded)), size
        except UserError:
            raise
        except MemoryError:
            raise UserError(f"{label} does not fit in memory ({_size_text(image.size)}); make it smaller") from None
        except Exception as error:  # decoders of damaged files raise anything at all
            whole = _with_end(image, file)
            if whole is None:
                raise _damaged(label, error) from None
    return _read(whole, label, max_pixels, ordinary)


def _reduction(width: int, height: int, ordinary: int | None) -> int:
    """1, 2, 4...: what the sides are divided by so that there are no more than ``ordinary`` pixels."""
    factor = 1
    while ordinary is not None and -(-width // factor) * -(-height // factor) > ordinary:
        factor *= 2
    return factor


def _with_end(image: ImageFile.ImageFile, file: IO[bytes]) -> bytes | None:
    """The file of a JPEG that lacks its end marker and nothing else, with one; None for any other."""
    if image.format not in ("JPEG", "MPO"):
        return None
    from detector.images.jpeg_end import with_end

    try:
        file.seek(0)
        return with_end(file.read())
    except (OSError, MemoryError):
        return None


def read_image_size(source: ImageSource, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) that :func:`read_image` would give, from the file's header.

    The pixels are not decoded, so a file that is damaged after its header passes. (Only a PNG whose orientation stands
    behind its pixels is decoded.) Arguments and errors are those of :func:`read_image`.
    """
    label = _label(source, name)
    with _opened(source, label, max_pixels) as (image, _):
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
    with _opened(source, label, MAX_PIXELS) as (image, _):
        return _orientation(image)


# --- opening ----------------------------------------------------------------------------------------------------------


def _label(source: ImageSource, name: str | None) -> str:
    if name is None:
        if isinstance(source, (bytes, bytearray, memoryview)):
            return "the image's data"
        found = getattr(source, "name", None) if hasattr(source, "read") else source
        name = os.fspath(found) if isinstance(found, (str, os.PathLike)) else "the image's data"
    return name.replace("\n", "\\n").replace("\r", "\\r")


@contextlib.contextmanager
def _opened(source: ImageSource, label: str, max_pixels: int) -> Iterator[tuple[ImageFile.ImageFile, IO[bytes]]]:
    """The picture with its header read, and its file; closed at the end whatever happens."""
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
        yield image, file


def _open_file(path: str | os.PathLike[str], label: str) -> IO[bytes]:
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise UserError(f"{label} does not exist; check the path") from None
    except (IsADirectoryError, PermissionError) as error:  # Windows calls an opened folder a matter of permission
        if isinstance(error, IsADirectoryError) or Path(path).is_dir():
            raise UserError(f"{label} is a folder, not an image; name the images in it") from None
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
    raise UserError(f"{label} is not an image of a known format ({allowed}); convert it to JPEG or PNG")


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


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8, by the header where that is possible; 1 if there is none or it is damaged."""
    try:
        if image.format == "PNG" and ("exif" in image.info or not _png_has_late_metadata(getattr(image, "fp", None))):
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
