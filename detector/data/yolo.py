"""YOLO text folders: a ``.txt`` file for each picture, one line ``class x y width height`` for each object.

The numbers are the box's centre and size as shares of the picture; :mod:`detector.data.yolo_content` says which others
are read. A picture without a text file, or with an empty one, shows none of the classes: that is how such sets mark
pure background.

Read are a ``data.yaml`` (or another ``.yaml`` with ``names`` and ``train``) with its ``path``, ``train``, ``val`` and
``test``: folders or lists of pictures, relative to the file or absolute; CVAT's YOLO 1.1 with its ``obj.data``; or,
without such a file, ``classes.txt`` or ``obj.names`` with text files beside the pictures or in ``labels/`` beside
``images/``. Sizes come from the pictures' headers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from detector.data.builder import Builder
from detector.data.classes import Classes
from detector.data.dataset import Dataset
from detector.data.finder import UNREAD, Match, PictureFinder, checked, label_folder, locate, stem_of, unread_images
from detector.data.paths import list_names, read_lines, relative_name, relative_prefix
from detector.data.yolo_content import (
    DARKNET_SUFFIX,
    SPLITS,
    YAML_SUFFIXES,
    DataFile,
    RowFormat,
    find_data_file,
    read_class_file,
    read_data_file,
    read_objects,
)
from detector.images.read import read_image_size
from proposals.errors import UserError

LOOKED_FOR = "YOLO (data.yaml, obj.data, or classes.txt with a .txt file for each image)"

_NOT_LABELS = frozenset(("classes.txt", "train.txt", "val.txt", "test.txt", "requirements.txt", "readme.txt"))
_CLASS_FILES = ("classes.txt", "obj.names", "_darknet.labels", "labels/classes.txt")


def recognise(root: Path) -> bool:
    """Whether ``root`` is a data file, or a folder with one or with text annotations."""
    if root.is_file():
        return root.suffix.lower() in (*YAML_SUFFIXES, DARKNET_SUFFIX)
    return find_data_file(root) is not None or (_class_file(root) is not None and bool(_bare_folders(root)))


def splits(root: Path) -> tuple[str, ...]:
    """``train``, ``val`` and ``test``, as far as the data file names them and they are there, or folders do.

    A ``train`` that is named but not there is among them, so that nobody trains on another part by mistake.
    """
    path = root if root.is_file() else find_data_file(root)
    if path is None:
        return tuple(name for name in _bare_folders(root) if name)
    data = read_data_file(path)
    return tuple(split for split in data.places if split == "train" or data.has(split)) or tuple(data.places)


def read(root: Path, split_names: Sequence[str], wanted: Sequence[str] | None, images: Path | None = None) -> Dataset:
    """Read splits (none: everything).

    Raises:
        UserError: an unknown split, one that is not there, a broken data file, or text files for none of the pictures.
    """
    if images is not None:
        raise UserError("--images has no meaning for YOLO folders; write the folder into data.yaml")
    path = root if root.is_file() else find_data_file(root)
    if path is not None:
        return _read_named(root, read_data_file(path), split_names, wanted)
    folders = _bare_folders(root)
    builder = Builder(root.name, "yolo", root, "+".join(split_names))
    for split in split_names or tuple(folders):
        if split not in folders:
            raise UserError(_unknown_split(root, split, folders))
        finder = PictureFinder(folders[split])
        _read_pictures(builder, finder, [checked(finder, name) for name in finder.all()], root, RowFormat())
        _note_orphans(builder, [finder.folder])
    if not split_names:
        for image in unread_images(root, list(folders.values())):
            builder.fault("missing-annotation", image, UNREAD)
    class_file = _class_file(root)
    classes = read_class_file(class_file) if class_file else Classes((), ())
    return builder.build(classes.chosen(wanted, str(root)))


def _read_named(root: Path, data: DataFile, split_names: Sequence[str], wanted: Sequence[str] | None) -> Dataset:
    """Read splits of a data file."""
    builder = Builder(data.base.name, "yolo", data.base, "+".join(split_names))
    for split in split_names or tuple(data.places):
        if split not in data.places:
            raise UserError(_unknown_split(root, split, data.places))
        if not data.has(split):
            text = f"{data.path}: {split} ({', '.join(data.places[split])})"
            raise UserError(f"{text} is neither a folder of images nor a list of them within {data.base}; correct it")
        for item in data.places[split]:
            place = data.find(item)
            if place is None:
                builder.fault("missing-image", data.path, f"{item} is neither a folder of images nor a list of them")
                continue
            finder, matches = _listed(place, data.base) if place.is_file() else _below(place)
            _read_pictures(builder, finder, matches, data.path, data.rows)
            if place.is_dir():
                _note_orphans(builder, {(place / match.picture).parent: None for match in matches if match.picture})
    for split in data.places:
        if split not in split_names and not data.has(split):
            builder.fault("missing-split", data.path, f"{split} is not there: {', '.join(data.places[split])}")
    return builder.build(data.classes.chosen(wanted, str(root)))


def _unknown_split(root: Path, split: str, known: Iterable[str]) -> str:
    return f"{root} has no split {split!r}; it has {', '.join(filter(None, known)) or 'none'}"


# --- layout -----------------------------------------------------------------------------------------------------------


def _class_file(root: Path) -> Path | None:
    return next((root / name for name in _CLASS_FILES if (root / name).is_file()), None)


def _bare_folders(root: Path) -> dict[str, Path]:
    """Picture folder of each split (``""``: no splits) of a set without a data file."""
    single = [folder for folder in (root / "images", root) if _has_labels(folder)]
    if single:
        return {"": single[0]}
    found: dict[str, Path] = {}
    for split in (*SPLITS, "valid"):
        for folder in (root / "images" / split, root / split / "images", root / split):
            if _has_labels(folder):
                found.setdefault(split, folder)
    return found


def _has_labels(folder: Path) -> bool:
    """Whether a text annotation belongs to any of the folder's pictures."""
    labels = LabelFinder()
    return any(labels.find(folder / name) is not None for name in PictureFinder(folder).all())


def _below(folder: Path) -> tuple[PictureFinder, list[Match]]:
    """The pictures in a folder and in those below it, without hidden ones."""
    finder = PictureFinder(folder)
    folders = (path.relative_to(folder) for path in folder.rglob("*") if path.is_dir())
    below = sorted(sub.as_posix() for sub in folders if not any(part.startswith(".") for part in sub.parts))
    names = [*finder.all(), *(f"{sub}/{name}" for sub in below for name in PictureFinder(folder / sub).all())]
    return finder, [checked(finder, name) for name in names]


def _listed(place: Path, base: Path) -> tuple[PictureFinder, list[Match]]:
    """The pictures of a list: relative to its own folder, or, where none is there, to the data folder."""
    names = [line.removeprefix("./") for line in read_lines(place)]
    finder = PictureFinder(place.parent)
    inside = (relative_name(name, finder.folder) for name in names)
    if place.parent != base and not any(name is not None and finder.has(name) for name in inside):
        finder = PictureFinder(base)
    return finder, locate(finder, names)


class LabelFinder:
    """Finds the text file of a picture, reading each directory's names once."""

    def __init__(self) -> None:
        self._finder = cache(PictureFinder)

    def find(self, picture: Path) -> Path | None:
        """The annotation of ``picture``, ``a.txt`` or ``a.jpg.txt``; None: there is none of this very name.

        It lies in ``labels`` in place of the last ``images`` in the path, beside the picture, or in ``labels/`` there.
        """
        return next((finder.folder / name for finder, name in self._places(picture) if finder.has(name)), None)

    def find_similar(self, picture: Path) -> Path | None:
        """The one annotation that is called like ``picture`` but for capitals and the form of letters, or None."""
        found = ((finder.folder, finder.by_name(name)) for finder, name in self._places(picture))
        return next((folder / names[0] for folder, names in found if len(names) == 1), None)

    def _places(self, picture: Path) -> Iterator[tuple[PictureFinder, str]]:
        for folder in (label_folder(picture.parent), picture.parent, picture.parent / "labels"):
            for name in (picture.name, stem_of(picture.name)):
                yield self._finder(folder), f"{name}.txt"


# --- annotations ------------------------------------------------------------------------------------------------------


def _read_pictures(
    builder: Builder, finder: PictureFinder, matches: Sequence[Match], where: Path, rows: RowFormat
) -> None:
    """Add pictures with their annotations; an id is the path without ending, unless two pictures differ in that alone.

    Args:
        matches: the pictures, or why there are none. where: the data file or folder, for messages.

    Raises:
        UserError: none of them has an annotation.
    """
    prefix = relative_prefix(builder.root, finder.folder)
    pictures = [match.picture for match in matches if match.picture]
    stems = Counter(stem_of(picture) for picture in dict.fromkeys(pictures))
    labels = _labels_of(builder, finder.folder, pictures)
    for match in matches:
        if not match.picture:
            builder.fault(match.kind, where, match.message)
            continue
        path, label = finder.folder / match.picture, labels[match.picture]
        try:
            size = read_image_size(path)
        except UserError as error:
            builder.fault("unreadable-image", path, str(error))
            continue
        try:
            objects = list(read_objects(builder, label, size, rows)) if label is not None else []
        except UserError as error:
            builder.fault("bad-annotation", label or path, str(error))
            continue
        stem = stem_of(match.picture)
        image_id = prefix + (stem if stems[stem] == 1 else match.picture)
        builder.add(image_id, prefix + match.picture, size, str(label or path), objects)
    if matches and not pictures:
        raise UserError(f"{where}: none of {len(matches)} images is there ({matches[0].message}); correct the list")
    if matches and not any(labels.values()):
        raise UserError(f"{where}: none of the {len(matches)} images has a text annotation (labels/<name>.txt)")


def _labels_of(builder: Builder, folder: Path, pictures: Sequence[str]) -> dict[str, Path | None]:
    """The annotation of each picture; pictures that share one are noted."""
    finder = LabelFinder()
    labels = {picture: finder.find(folder / picture) for picture in pictures}
    owners: dict[Path, str] = {}
    for picture, label in labels.items():
        if label is not None and owners.setdefault(label, picture) != picture:
            text = f"this is the annotation of {owners[label]} and of {picture}, which share a name; both have it"
            builder.fault("same-stem", label, text)
    for picture, label in labels.items():
        if label is None and (similar := finder.find_similar(folder / picture)) not in owners:
            labels[picture] = similar
    return labels


def _note_orphans(builder: Builder, folders: Iterable[Path]) -> None:
    """Note annotations that are of no picture, in the folders of annotations alone that belong to ``folders``."""
    for folder in folders:
        labels = label_folder(folder)
        if labels == folder:
            continue
        pictures = PictureFinder(folder)
        for name in list_names(labels):
            stem = name[:-4]
            if not name.lower().endswith(".txt") or name in _NOT_LABELS:
                continue
            if not (pictures.by_folded_stem(stem) or pictures.by_name(stem)):
                builder.fault("missing-image", labels / name, f"there is no image {stem} in {folder}")
