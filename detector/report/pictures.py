"""The gallery's pictures: small JPEGs, inside the page or in a folder beside it."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector.evaluation.analysis_types import PictureInfo
from detector.images.read import read_image_reduced
from detector.strict_yaml import write_whole
from proposals.errors import UserError

QUALITY = 74
WORKERS = 4
SMALL, LARGE = 480, 1280
"""The longer side in pixels of a thumbnail, and of a picture that is opened from a folder."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the page finds one picture: data URIs or relative paths; empty where the file could not be read."""

    small: str = ""
    large: str = ""


def encoded(image: NDArray[np.uint8], longer_side: int, quality: int = QUALITY) -> bytes:
    """``image`` ``(H, W, 3)`` RGB as JPEG, its longer side at most so many pixels."""
    picture, file = Image.fromarray(image), io.BytesIO()
    factor = min(1.0, longer_side / max(picture.size))
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0).save(file, "JPEG", quality=quality)
    return file.getvalue()


def data_uri(picture: bytes, kind: str = "jpeg") -> str:
    """The content of a picture file as an address that a page has within it."""
    return f"data:image/{kind};base64,{b64encode(picture).decode()}"


def embedded(pictures: Iterable[PictureInfo]) -> list[Sources]:
    """A data URI for each picture, which keeps the page in one file."""
    return _each(pictures, lambda number, image: Sources(data_uri(encoded(image, SMALL))))


def in_folder(pictures: Iterable[PictureInfo], folder: Path) -> list[Sources]:
    """A thumbnail and a larger picture of each, written to ``folder``; files are numbered, whatever the images' names.

    Args:
        folder: new, or what a killed run has left of it; the page is to lie beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def write(number: int, image: NDArray[np.uint8]) -> Sources:
        names = f"{number:05d}-small.jpg", f"{number:05d}.jpg"
        for name, side in zip(names, (SMALL, LARGE), strict=True):
            write_whole(folder / name, encoded(image, side))
        return Sources(*(f"{folder.name}/{name}" for name in names))

    return _each(pictures, write)


def _each(pictures: Iterable[PictureInfo], sources_of: Callable[[int, NDArray[np.uint8]], Sources]) -> list[Sources]:
    """``sources_of`` the number and the content of each picture; empty ones where its file cannot be read."""

    def one(numbered: tuple[int, PictureInfo]) -> Sources:
        number, picture = numbered
        try:
            image, _ = read_image_reduced(Path(picture.path))
        except UserError:
            return Sources()
        return sources_of(number, image)

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(one, enumerate(pictures)))
