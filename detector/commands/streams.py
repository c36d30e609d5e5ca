"""Standard output and error that take any text, whatever their encoding lacks."""

from __future__ import annotations

import contextlib
import sys


def tolerant_streams() -> None:
    """Let standard output and error write any text: what their encoding lacks as ``\\xe9`` or ``\\u732b``."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a stand-in for a stream may have none
        if reconfigure is not None:
            with contextlib.suppress(OSError, ValueError):  # closed, or its file was exchanged for another kind
                reconfigure(errors="backslashreplace")
