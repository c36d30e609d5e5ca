"""The gallery's pictures: small JPEGs, inside the page or in a folder beside it."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

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


def jpeg(path: Path, longer_sides: Sequence[int]) -> list[bytes]:
    """The picture of ``path``, once for each of ``longer_sides``, at most of its own size.

    Raises:
        UserError: the file cannot be read.
    """
    picture = Image.fromarray(read_image_reduced(path)[0])
    files = []
    for side in longer_sides:
        factor = min(1.0, side / max(picture.size))
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        file = io.BytesIO()
        picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0).save(file, "JPEG", quality=QUALITY)
        files.append(file.getvalue())
    return files


def embedded(pictures: Iterable[PictureInfo]) -> list[Sources]:
    """A data URI for each picture, which keeps the page in one file."""

    def one(picture: PictureInfo) -> Sources:
        try:
            (data,) = jpeg(Path(picture.path), [SMALL])
        except UserError:
            return Sources()
        return Sources(small=f"data:image/jpeg;base64,{b64encode(data).decode()}")

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(one, pictures))


def in_folder(pictures: Iterable[PictureInfo], folder: Path) -> list[Sources]:
    """A thumbnail and a larger picture of each, written to ``folder``; files are numbered, whatever the images' names.

    Args:
        folder: new, or what a killed run has left of it; the page is to lie beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def one(numbered: tuple[int, PictureInfo]) -> Sources:
        number, picture = numbered
        try:
            small, large = jpeg(Path(picture.path), [SMALL, LARGE])
        except UserError:
            return Sources()
        names = f"{number:05d}-small.jpg", f"{number:05d}.jpg"
        for name, data in zip(names, (small, large), strict=True):
            write_whole(folder / name, data)
        return Sources(*(f"{folder.name}/{name}" for name in names))

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(one, enumerate(pictures)))
