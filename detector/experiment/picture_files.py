"""A file of arrays for each picture, whole or not there, so that processes share a folder and stop at any time."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WHAT = "what"
# What NumPy and zipfile raise at damaged bytes, which may also look encrypted or packed in another way.
_DAMAGE = (OSError, ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def picture_path(folder: Path, image_id: str) -> Path:
    """The file of a picture; its name does not depend on what characters the id has."""
    return folder / (hashlib.sha256(image_id.encode(errors="surrogatepass")).hexdigest()[:24] + ".npz")


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]], what: str) -> None:
    """Write ``arrays`` under their names, with ``what`` they are: to another name first, of this process alone."""
    memory = io.BytesIO()
    np.savez_compressed(memory, **{**arrays, WHAT: np.array(what)})  # type: ignore[arg-type]
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.unfinished")
    with temporary.open("wb") as file:
        file.write(memory.getvalue())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_arrays(path: Path, what: str) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file; ``None`` where it is missing, damaged, or of something other than ``what``."""
    if not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes())) as file:
            if str(file[WHAT]) != what:
                return None
            return {name: file[name] for name in file.files if name != WHAT}
    except _DAMAGE:
        return None
