"""Pillow's libtiff writes what it finds odd in a file to standard error, past Python; here that is turned off."""

from __future__ import annotations

import contextlib
import ctypes

from PIL import _imaging

_HANDLERS = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")


def silence() -> None:
    """Have the libtiff that Pillow uses say nothing; errors still reach Pillow as return codes.

    Where libtiff is linked into Pillow, as on Windows, its functions cannot be found, and it goes on as it was.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(_imaging.__file__)
        for name in _HANDLERS:
            handler = getattr(library, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
