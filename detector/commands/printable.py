"""Text from files and file names, made safe to show on a terminal.

A name may hold escape sequences, which a terminal obeys: they colour, move, erase, or set the window's title. And a
stream may be unable to hold a letter, as Windows' code pages and names of files that are no UTF-8.
"""

from __future__ import annotations

import contextlib
import re
import sys

# Control characters (C0, DEL, C1), separators of lines, signs that turn the direction of writing, lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """``text`` on one line, with what a terminal would obey or cannot show as ``\\x1b``, ``\\n`` or ``\\u202e``."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def tolerant_streams() -> None:
    """Let standard output and error write any text: what their encoding lacks as ``\\xe9`` or ``\\u732b``."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a stand-in for a stream may have none
        if reconfigure is not None:
            with contextlib.suppress(OSError, ValueError):  # closed, or its file was exchanged for another kind
                reconfigure(errors="backslashreplace")


def can_show(sign: str) -> bool:
    """Whether standard output's encoding has ``sign``."""
    try:
        sign.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
