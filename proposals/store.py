"""Proposals on disk: one file per image, found by the image's content and the settings that made them.

A store is a folder; in it a folder for each set of settings, named by their digest, with ``settings.json``; in that a
file for each image, named by the digest of its pixels and size. A file carries a checksum of itself and is renamed into
place when whole, so a killed run leaves no half-written one, and damage is noticed and mended by making it again.

File: the line ``proposals 1``, the SHA-256 (32 bytes) of the rest, then little-endian height, width and N as int64,
boxes ``(N, 4)`` float32, scores ``(N,)`` float32, source ``(N,)`` uint8.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proposals.errors import UserError
from proposals.types import Proposals, ProposalSource

_MAGIC = b"proposals 1\n"
_UNFINISHED = ".unfinished"


def image_key(image: NDArray[np.uint8]) -> str:
    """The digest, 32 hexadecimal digits, of an image ``(H, W, 3)`` uint8: of its pixels and its size."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()[:32]


def settings_key(settings: Mapping[str, Any]) -> str:
    """The digest, 16 hexadecimal digits, of settings of plain types, whatever their order."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class ProposalStore:
    """Stored proposals as a :class:`proposals.types.ProposalSource`.

    Args:
        folder: the store; made when first needed.
        settings: of plain types (JSON), all that the proposals depend on beside the image: the method, its version, its
            configuration and seed. Other settings are another part of the store.
        source: makes and stores what is not there yet; without it, such an image is a UserError.
    """

    def __init__(
        self, folder: str | os.PathLike[str], settings: Mapping[str, Any], source: ProposalSource | None = None
    ) -> None:
        self.folder = Path(folder)
        self.settings = dict(settings)
        self.source = source
        self._part = self.folder / settings_key(self.settings)

    def path(self, image: NDArray[np.uint8]) -> Path:
        """Where this image's proposals are or would be; two letters of the key make a folder, so none gets too full."""
        key = image_key(image)
        return self._part / key[:2] / f"{key}.proposals"

    def load(self, image: NDArray[np.uint8]) -> Proposals | None:
        """The stored proposals of ``image`` ``(H, W, 3)`` uint8; None where there are none or the file is damaged."""
        proposals = read_proposals(self.path(image))
        return proposals if proposals is not None and proposals.image_size == image.shape[:2] else None

    def save(self, image: NDArray[np.uint8], proposals: Proposals) -> None:
        """Store the proposals of ``image``; in the place of older ones at once, or not at all."""
        path = self.path(image)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            about = self._part / "settings.json"
            if not about.exists():
                _write_whole(about, json.dumps(self.settings, indent=2, sort_keys=True).encode() + b"\n")
            _write_whole(path, _to_bytes(proposals))
        except OSError as error:
            raise UserError(f"{path}: cannot store proposals: {error.strerror}") from None

    def remove_unfinished(self) -> int:
        """Remove what killed runs left half-written an hour or longer ago; how many files. Newer ones may be in use."""
        removed = 0
        for path in self._part.glob(f"**/.*{_UNFINISHED}"):
            # Another process may be tidying up, too.
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > 3600:
                    path.unlink()
                    removed += 1
        return removed

    def propose(self, image: NDArray[np.uint8]) -> Proposals:
        """The stored proposals, or the source's, which are then stored."""
        return self.get(image)[0]

    def get(self, image: NDArray[np.uint8]) -> tuple[Proposals, bool]:
        """The proposals of ``image``, and whether they had to be made.

        Raises:
            UserError: they are not in the store and there is no source; or the store cannot be written.
        """
        proposals = self.load(image)
        if proposals is not None:
            return proposals, False
        if self.source is None:
            raise UserError(
                f"{self.folder}: no proposals of this image with these settings; run detector propose first"
            )
        proposals = self.source.propose(image)
        self.save(image, proposals)
        return proposals, True


def read_proposals(path: Path) -> Proposals | None:
    """The proposals in a store's file; None where it is missing, damaged or no such file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot read stored proposals: {error.strerror}") from None
    head = len(_MAGIC) + 32
    if not data.startswith(_MAGIC) or hashlib.sha256(data[head:]).digest() != data[len(_MAGIC) : head]:
        return None
    height, width, count = (int(n) for n in np.frombuffer(data, "<i8", 3, head))
    at = head + 24
    boxes = np.frombuffer(data, "<f4", 4 * count, at).reshape(count, 4).astype(np.float32)
    scores = np.frombuffer(data, "<f4", count, at + 16 * count).astype(np.float32)
    source = np.frombuffer(data, np.uint8, count, at + 20 * count)
    return Proposals(boxes, scores, source, (height, width))


def _to_bytes(proposals: Proposals) -> bytes:
    body = b"".join(
        (
            np.array([*proposals.image_size, len(proposals)], "<i8").tobytes(),
            proposals.boxes.astype("<f4").tobytes(),
            proposals.scores.astype("<f4").tobytes(),
            proposals.source.tobytes(),
        )
    )
    return _MAGIC + hashlib.sha256(body).digest() + body


def _write_whole(path: Path, data: bytes) -> None:
    """Write under a temporary name, then rename: the file is whole or absent, also when several processes write it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=_UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
