"""A folder of pictures sorted by class, one folder for each, with or without ``train`` and ``val`` above them.

``CLASS/*.jpg`` or ``SPLIT/CLASS/*.jpg``, as ImageNet's classification pictures are unpacked. There are no boxes: each
picture has one object of its class that fills it. Sizes are read from the pictures' headers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from detector.data.builder import Builder, Classes, Object
from detector.data.dataset import Dataset
from detector.data.paths import PictureFinder
from detector.images import read_image_size
from proposals.errors import UserError

LOOKED_FOR = "a folder of pictures for each class, with train/ and val/ above them or without"
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
        (f"{prefix}{name}/{picture}", name)
        for prefix in ([f"{split}/" for split in split_names] or [""])
        for name in _classes(root / prefix)
        for picture in PictureFinder(root / prefix / name).all()
    ]

    def size(path: str) -> tuple[int, int] | UserError:
        try:
            return read_image_size(root / path)
        except UserError as fault:
            return fault

    with ThreadPoolExecutor(_READERS) as readers:
        for (path, name), known_size in zip(found, readers.map(size, [path for path, _ in found]), strict=True):
            if isinstance(known_size, UserError):
                builder.fault("unreadable-image", root / path, str(known_size))
                continue
            height, width = known_size
            item = Object(name, 0, 0, width, height)
            builder.add(path.rpartition(".")[0], path, known_size, str(root / path), (item,))
    return builder.build(Classes.of_names(names).chosen(wanted, str(root)))


def _classes(folder: Path) -> list[str]:
    """Names of the folders in ``folder`` that hold pictures themselves, sorted; empty unless all of them do."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:
        raise UserError(f"{folder} may not be read; check its permissions") from None
    return names if len(names) > 1 and all(PictureFinder(folder / name).all() for name in names) else []
