"""Names that come from data (ids, splits, file names in annotations) as names of files.

Such a name may be anything, ``../../.profile`` included. What is written under it lies directly in the folder that it
was meant for.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata

LONGEST = 200
"""Bytes; file systems commonly end at 255, and a suffix follows."""

_UNSAFE = re.compile(r'[/\\<>:"|?*]' if os.name == "nt" else r"[/\\]")
_UNSAFE_KINDS = ("Cc", "Cs", "Zl", "Zp")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def path_part(name: str) -> str:
    """``name`` as one part of a path that every file system takes: itself where it is one already.

    Otherwise separators, line breaks, control characters, lone surrogates and a leading dot become ``_``, spaces at the
    ends go, a long name is cut, and a digest of the whole name follows, so that different names stay different.
    """
    safe = "".join("_" if unicodedata.category(letter) in _UNSAFE_KINDS else letter for letter in name)
    safe = _UNSAFE.sub("_", safe).strip()
    if safe.startswith("."):
        safe = "_" + safe[1:]
    if os.name == "nt":
        safe = safe.rstrip(". ")
        safe = f"_{safe}" if _DEVICES.fullmatch(safe) else safe
    safe = safe.encode()[:LONGEST].decode(errors="ignore")
    if safe == name and safe:
        return name
    return f"{safe or '_'}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:12]}"


def path_parts(name: str) -> str:
    """``a/b``, an id made of the folders that a file was found in, with each part as :func:`path_part` has it."""
    return "/".join(path_part(part) for part in name.split("/"))
