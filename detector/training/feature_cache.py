"""Features on disk: one file per image, found by what they were made of; nothing that was finished is made twice.

A cache is a folder; in it a folder for each trunk with its input, named by the digest of the settings, with
``settings.json``; in that a file for each image, named by the digest of its pixels and of the regions asked for. A file
carries a checksum and is renamed into place when whole, so neither a kill nor a full disk leaves half of one, and
damage is noticed and mended by making it again. Files are mapped while they are looked at, so a set larger than the
memory can be worked through, however many files it has.

File: the line ``features 1``, the SHA-256 (32 bytes) of the rest, then little-endian R, C, G and D as int64, pooled
features ``(R, C)`` float16, the rows of the regions that have grid features ``(G,)`` int64, grid features ``(G, D)``
float16.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proposals.errors import UserError
from proposals.store import image_key, settings_key

_MAGIC = b"features 1\n"
_HEAD = len(_MAGIC) + 32
Half = NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class ImageFeatures:
    """What the trunk made of an image's regions.

    Attributes:
        pooled: ``(R, C)`` float16. rows: ``(G,)`` int64, ascending: the regions that have grid features.
        grid: ``(G, D)`` float16. See :mod:`detector.nets.region_head` for the two kinds.
    """

    pooled: Half
    rows: NDArray[np.int64]
    grid: Half


def regions_key(boxes: NDArray[np.float32], mirror: NDArray[np.bool_], rows: NDArray[np.int64]) -> str:
    """The digest, 16 hexadecimal digits, of the regions asked for."""
    digest = hashlib.sha256(repr((len(boxes), len(rows))).encode())
    for array, kind in ((boxes, "<f4"), (mirror, "u1"), (rows, "<i8")):
        digest.update(np.ascontiguousarray(array.astype(kind)).data)
    return digest.hexdigest()[:16]


class FeatureCache:
    """The part of a cache that belongs to ``settings``.

    Args:
        folder: the cache; made when first needed. settings: of plain types (JSON): all that features depend on beside
            the image and the regions, so the weights' digest, the crop, the normalisation, the grid.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)
        self.part = folder / settings_key(self.settings)

    def path(
        self,
        image: NDArray[np.uint8],
        boxes: NDArray[np.float32],
        mirror: NDArray[np.bool_],
        rows: NDArray[np.int64],
    ) -> Path:
        """Where the features of these regions of ``image`` are or would be."""
        key = image_key(image)
        return self.part / key[:2] / f"{key}-{regions_key(boxes, mirror, rows)}.features"

    def ensure(self, path: Path, make: Callable[[], ImageFeatures]) -> bool:
        """See that ``path`` holds sound features, and say whether they had to be made for that.

        Raises:
            UserError: the cache cannot be written (a full disk, say); what was in it stays.
        """
        if read_features(path, check=True) is not None:
            return False
        data = _to_bytes(make())
        try:
            for folder in (self.part, path.parent):
                folder.mkdir(parents=True, exist_ok=True)
            about = self.part / "settings.json"
            if not about.exists():
                _write_whole(about, [json.dumps(self.settings, indent=2, sort_keys=True).encode() + b"\n"])
            _write_whole(path, data)
        except OSError as error:
            raise UserError(
                f"{path}: cannot store features ({error.strerror or error}); free some space or name another --cache, "
                "then run again: what is finished is kept"
            ) from None
        return True


def read_features(path: Path, *, check: bool) -> ImageFeatures | None:
    """The features in a cache's file, mapped; None where it is missing or no such file, or, with ``check``, damaged."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < _HEAD + 32:
                return None
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot read stored features ({error.strerror or error})") from None
    if data[: len(_MAGIC)] != _MAGIC:
        return None
    if check and hashlib.sha256(memoryview(data)[_HEAD:]).digest() != data[len(_MAGIC) : _HEAD]:
        return None
    r, c, g, d = (int(n) for n in np.frombuffer(data, "<i8", 4, _HEAD))
    at = _HEAD + 32
    if len(data) != at + 2 * r * c + 8 * g + 2 * g * d:
        return None
    pooled = np.frombuffer(data, "<f2", r * c, at).reshape(r, c)
    rows = np.frombuffer(data, "<i8", g, at + 2 * r * c)
    grid = np.frombuffer(data, "<f2", g * d, at + 2 * r * c + 8 * g).reshape(g, d)
    return ImageFeatures(pooled, rows, grid)


def _to_bytes(features: ImageFeatures) -> list[bytes]:
    (r, c), (g, d) = features.pooled.shape, features.grid.shape
    body = [
        np.array([r, c, g, d], "<i8").tobytes(),
        features.pooled.astype("<f2").tobytes(),
        features.rows.astype("<i8").tobytes(),
        features.grid.astype("<f2").tobytes(),
    ]
    digest = hashlib.sha256()
    for part in body:
        digest.update(part)
    return [_MAGIC, digest.digest(), *body]


def _write_whole(path: Path, parts: list[bytes]) -> None:
    """Write under a temporary name, then rename: the file is whole or absent, also when several processes write it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".unfinished")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
