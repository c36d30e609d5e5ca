"""Images of a detection file found by the names of their files, where their ids are not the data set's.

``detector detect`` calls an image by its file, as ``000000397133``; the data set may call it 397133. A detection file
is taken by its ids as long as they are the data set's. Where they are not, an image is looked for by the path that the
file gives, or by its id as a name, with or without its ending. Nothing is found by a name that two files have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from detector.evaluation.tables import DetectionTable
from detector.shown import brief
from proposals.errors import UserError


class Found(NamedTuple):
    """An image of the data set, whether a path led to it, and how many parts of its name fitted."""

    image_id: str
    by_path: bool
    parts: int


class FileNames:
    """The images of a data set by the names of their files; ``files`` is the file of each image id, "" if unknown."""

    def __init__(self, files: Mapping[str, str]) -> None:
        whole = [(parts[0], image_id) for image_id, file in files.items() if (parts := _ends(file))]
        ends = [(end, image_id) for image_id, file in files.items() for end in _ends(file)]
        self._whole, self._whole_stems = _unique(whole), _unique((_stem(name), i) for name, i in whole)
        self._ends, self._end_stems = _unique(ends), _unique((_stem(name), i) for name, i in ends)

    def find(self, image_id: str, path: str, loose: bool) -> Found | None:
        """The one image whose file is ``path``, or else is called ``image_id``; the longest name that fits decides.

        Args:
            loose: whether folders may differ; otherwise all that the data set says of the file must fit.
        """
        names, stems = (self._ends, self._end_stems) if loose else (self._whole, self._whole_stems)
        for is_path, name, table in ((True, path, names), (False, image_id, names), (False, image_id, stems)):
            for end in _ends(name):
                if table.get(end):
                    return Found(table[end], is_path, end.count("/") + 1)
        return None


def joined_by_file(
    table: DetectionTable, files: Mapping[str, str], *, numbers_are_ids: bool
) -> tuple[DetectionTable, str]:
    """The table with the data set's image ids, and a line on images that were found by their files, or "".

    Args:
        table: detections, with ids as their file has them. files: the file of each image of the data set by its id, ""
            where that is not known. numbers_are_ids: a number is never taken for a name, as in COCO's results.

    Raises:
        UserError: ids and paths contradict each other; two images are found to be one.
    """
    names = FileNames(files)
    images = list(zip(table.image_ids, table.paths or ("",) * len(table.image_ids), strict=True))
    known = [image_id in files for image_id, _ in images]
    if not any(known):
        found = [
            names.find(image_id, path, loose=True) if path or not (numbers_are_ids and _is_number(image_id)) else None
            for image_id, path in images
        ]
        return _renamed(table, files, _one_each(table, found), known)
    strict = [names.find(image_id, path, loose=False) for image_id, path in images]
    others = [f is not None and k and f.image_id != i for f, k, i in zip(strict, known, table.image_ids, strict=True)]
    led = [f if f is not None and f.by_path else None for f in strict]
    for i, (other, at) in enumerate(zip(others, led, strict=True)):
        if other and at is not None:  # the path is what says where the detections come from
            if sum(f is not None for f in led) < sum(known):
                raise UserError(
                    f"the detections of image {brief(table.image_ids[i])} are of {brief(images[i][1])}, which is image "
                    f"{brief(at.image_id)} of the data set; do they belong together?"
                )
            return _renamed(table, files, _one_each(table, led), [False] * len(known))
    ids = set(table.image_ids)
    found = [
        f if f is not None and not k and f.image_id not in ids and (f.by_path or not _is_number(i)) else None
        for f, k, i in zip(strict, known, table.image_ids, strict=True)
    ]
    renamed, line = _renamed(table, files, _one_each(table, found), known)
    if not line and not numbers_are_ids and any(others):
        line = f"{sum(others)} of its image ids are also names of other images' files; they are taken for ids"
    return renamed, line


def _one_each(table: DetectionTable, found: list[Found | None]) -> list[Found | None]:
    """``found`` with no image twice: the surer one keeps it."""
    claims: dict[str, list[tuple[tuple[bool, int], int]]] = {}
    for i, mine in enumerate(found):
        if mine is not None:
            claims.setdefault(mine.image_id, []).append((mine[1:], i))
    kept: list[Found | None] = [None] * len(found)
    for image_id, several in claims.items():
        surest = max(several)[0]
        first, *others = (i for sure, i in several if sure == surest)
        if others:
            raise UserError(
                f"images {brief(table.image_ids[first])} and {brief(table.image_ids[others[0]])} of the detections are "
                f"both image {brief(image_id)} of the data set; keep one of them"
            )
        kept[first] = found[first]
    return kept


def _renamed(
    table: DetectionTable, files: Mapping[str, str], found: list[Found | None], known: list[bool]
) -> tuple[DetectionTable, str]:
    """The table with the ids of ``found``, and the line; an id that is not ``known`` must not look like one."""
    count = sum(f is not None for f in found)
    if not count:
        return table, ""
    image_ids = tuple(
        f.image_id if f is not None else name if k or name not in files else f"{name} (not found)"
        for f, k, name in zip(found, known, table.image_ids, strict=True)
    )
    line = f"{count} of its {len(image_ids)} images were found by the names of their files, not by their ids"
    return replace(table, image_ids=image_ids), line


def _unique(names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The image of each name, "" for a name that several images have."""
    images: dict[str, str] = {}
    for name, image_id in names:
        images[name] = image_id if images.get(name, image_id) == image_id else ""
    return images


def _ends(name: str) -> list[str]:
    """``a/b/c.jpg``, ``b/c.jpg``, ``c.jpg``; nothing of an empty name."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _stem(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return folder + slash + (file.rpartition(".")[0] or file)


def _is_number(name: str) -> bool:
    """Whether the name is a whole number as JSON writes it."""
    return name.isascii() and name.isdecimal() and (name == "0" or not name.startswith("0"))
