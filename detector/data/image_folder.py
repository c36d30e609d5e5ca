"""A folder of pictures sorted by class, one folder for each, with or without ``train`` and ``val`` above them.

``CLASS/*.jpg`` or ``SPLIT/CLASS/*.jpg``, as ImageNet's classification pictures are unpacked. There are no boxes: each
picture has one object of its class that fills it. Sizes are read from the pictures' headers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from detector.data.builder import Builder, Object
from detector.data.classes import Classes
from detector.data.dataset import Dataset
from detector.data.finder import PictureFinder, checked, stem_of
from detector.data.paths import list_entries
from detector.images.read import read_image_size
from proposals.errors import UserError

LOOKED_FOR = "a folder of images for each class, with train/ and val/ above them or without"
SPLITS = ("train", "val", "test")
_READERS = 8


def recognise(root: Path) -> bool:
    """Whether pictures lie in folders by class."""
    return root.is_dir() and any(_classes(folder) for folder in ([root / s for s in splits(root)] or [root]))


def splits(root: Path) -> tuple[str, ...]:
    """``train``, ``val`` and ``test``, as far as there are such folders with folders of classes in them."""
    return tuple(split for split in SPLITS if _classes(root / split))


def read(root: Path, split_names: Sequence[str], wanted: Sequence[str] | None, images: Path | None = None) -> Dataset:
    """Read splits, or all there is; pictures whose header cannot be read are noted as faults and left out.

    Raises:
        UserError: an unknown split.
    """
    if images is not None:
        raise UserError("--images has no meaning for folders of classes: the folders are the annotation")
    known = splits(root)
    for split in split_names:
        if split not in known:
            raise UserError(f"{root} has no split {split!r}; it has {', '.join(known)}")
    names = sorted({name for split in known or ("",) for name in _classes(root / split)})
    builder = Builder(root.name, "image_folder", root, "+".join(split_names))
    found = [
        _Picture(f"{prefix}{name}", picture, name, finder)
        for prefix in ([f"{split}/" for split in split_names] or [""])
        for name in _classes(root / prefix)
        for finder in (PictureFinder(root / prefix / name),)
        for picture in finder.all()
    ]

    def size(picture: _Picture) -> tuple[int, int] | str:
        match = checked(picture.finder, picture.name)
        try:
            return read_image_size(root / picture.folder / picture.name) if match.picture else match.message
        except UserError as fault:
            return str(fault)

    stems = Counter(f"{picture.folder}/{stem_of(picture.name)}" for picture in found)
    with ThreadPoolExecutor(_READERS) as readers:
        for picture, known_size in zip(found, readers.map(size, found), strict=True):
            path = f"{picture.folder}/{picture.name}"
            if isinstance(known_size, str):
                builder.fault("unreadable-image", root / path, known_size)
                continue
            height, width = known_size
            item = Object(picture.class_name, 0, 0, width, height)
            # Pictures that differ in their ending alone need it to be told apart.
            image_id = stem_of(path) if stems[stem_of(path)] == 1 else path
            builder.add(image_id, path, known_size, str(root / path), (item,))
    return builder.build(Classes.named(names, names).chosen(wanted, str(root)))


class _Picture(NamedTuple):
    """A picture file: its folder relative to the root, name and class, and who lists its folder."""

    folder: str
    name: str
    class_name: str
    finder: PictureFinder


def _classes(folder: Path) -> list[str]:
    """Names of the folders in ``folder`` that hold pictures themselves, sorted; empty unless all of them do."""
    names = list(list_entries(folder).folders)
    return names if len(names) > 1 and all(PictureFinder(folder / name).all() for name in names) else []
