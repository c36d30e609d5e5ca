"""Tiny-ImageNet-200: 64x64 pictures of 200 ImageNet classes, one box each, in the official folders.

``train/<wnid>/images/*.JPEG`` with ``train/<wnid>/<wnid>_boxes.txt``, ``val/images`` with ``val/val_annotations.txt``.
Boxes are corners that count from 0 and include the last pixel (the commonest is 0 0 63 63), so 1 is added to xmax and
ymax. No picture is opened: sizes come from each picture's header when somebody asks for them.

``wnids.txt`` is the label order. Names for people are the first words of ``words.txt``, made unique.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from detector.data.builder import Builder, Object
from detector.data.classes import Classes
from detector.data.dataset import Dataset
from detector.data.finder import PictureFinder
from detector.data.locate import checked
from detector.data.paths import read_lines, read_text
from proposals.errors import UserError

_KEY = re.compile(r"\w{1,40}")
LOOKED_FOR = "Tiny-ImageNet (wnids.txt with train/ or val/)"


def recognise(root: Path) -> bool:
    """Whether the folder has the official layout."""
    return (root / "wnids.txt").is_file() and bool(splits(root))


def splits(root: Path) -> tuple[str, ...]:
    """``train`` and ``val``, as far as they are there; ``test`` has no annotations."""
    found = ["train"] if (root / "train").is_dir() else []
    return (*found, "val") if (root / "val" / "val_annotations.txt").is_file() else tuple(found)


def read(root: Path, split_names: Sequence[str], wanted: Sequence[str] | None, images: Path | None = None) -> Dataset:
    """Read splits; pictures that the lists name but the folders lack are noted as faults and left out.

    Raises:
        UserError: an unknown split (``test`` has no annotations), or a broken list.
    """
    if images is not None:
        raise UserError("--images has no meaning for Tiny-ImageNet: its images lie beside the annotations")
    keys = read_lines(root / "wnids.txt")
    for key in keys:
        if not _KEY.fullmatch(key):
            raise UserError(f"{root / 'wnids.txt'}: {key[:40]!r} is no wnid; copy the file again")
    if len(set(keys)) != len(keys):
        raise UserError(f"{root / 'wnids.txt'}: a wnid stands there twice; copy the file again")
    classes = Classes.named(keys, unique_names(keys, _words(root, keys)))
    builder = Builder(root.name, "tiny_imagenet", root, "+".join(split_names))
    for split in split_names:
        if split not in splits(root):
            raise UserError(f"{root} has no annotated split {split!r}; it has {', '.join(splits(root))}")
        if split == "val":
            _read_list(builder, "val/images", root / "val" / "val_annotations.txt", None)
            continue
        for key in keys:
            folder = root / "train" / key
            if folder.is_dir():
                _read_list(builder, f"train/{key}/images", folder / f"{key}_boxes.txt", key)
            else:
                builder.fault("missing-image", folder, f"the folder of class {key} does not exist")
    return builder.build(classes.chosen(wanted, str(root)))


def _read_list(builder: Builder, folder: str, path: Path, key: str | None) -> None:
    """Add the pictures of one list: lines of name, [wnid,] xmin, ymin, xmax, ymax."""
    if not path.is_file():
        builder.fault("missing-annotation", path, "the list of boxes does not exist")
        return
    finder = PictureFinder(builder.root / folder)
    source = str(path)
    before = 2 if key is None else 1
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.strip().rsplit(None, before + 3)
        if not words:
            continue
        try:
            x1, y1, x2, y2 = (float(word) for word in words[before:])
        except ValueError:
            builder.fault("bad-annotation", path, f"line {number} is not a name and four numbers: {line.strip()!r}")
            continue
        name = words[0]
        if "/" in name or not finder.has(name):  # no listing holds a name that leads out of the folder
            builder.fault("missing-image", path, f"there is no image {name} in {folder}")
            continue
        match = checked(finder, name)
        if not match.picture:
            builder.fault(match.kind, path, match.message)
            continue
        item = Object(words[1] if key is None else key, x1, y1, x2 + 1, y2 + 1)
        builder.add(name.rpartition(".")[0] or name, f"{folder}/{name}", None, source, (item,))


def _words(root: Path, keys: Sequence[str]) -> dict[str, list[str]]:
    """Synonyms of the wnids ``keys``; empty if ``words.txt`` is missing (the wnids are then the names)."""
    if not (root / "words.txt").is_file():
        return {}
    wanted = frozenset(keys)  # the list has all of WordNet
    pairs = (line.partition("\t") for line in read_text(root / "words.txt").splitlines())
    return {
        key: [word.strip() for word in words.split(",") if word.strip()] for key, _, words in pairs if key in wanted
    }


def unique_names(keys: Sequence[str], words: dict[str, list[str]]) -> tuple[str, ...]:
    """A name for each key that no other has.

    The first synonym; where several keys share it, the second in brackets behind it (``crane (wading bird)``); where
    that does not tell them apart either, the key.
    """
    names = [(words.get(key) or [key])[0] for key in keys]
    for bracket in (lambda key: (words.get(key) or [key])[1:2], lambda key: [key]):
        counts = Counter(names)
        for i, key in enumerate(keys):
            if counts[names[i]] > 1 and bracket(key):
                names[i] = f"{names[i].partition(' (')[0]} ({bracket(key)[0]})"
    return tuple(names)
