"""COCO: one JSON file of images, annotations and categories.

Read are a single file, a folder with ``annotations/instances_<split>.json`` (or other ``annotations/<split>.json``), a
folder with JSON files in it, and folders ``train/_annotations.coco.json``... The picture folder is searched for beside
the file and in the data folder; ``images=`` names another, relative to the data folder or absolute.

Boxes are ``[x, y, width, height]`` in continuous pixels and are taken as they are; where there is none, it is the box
around the segmentation. ``area`` is the segment's. Labels follow the categories of all files of the set, in the order
of the first; classes of several files are the same where their names are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detector.data.builder import Builder
from detector.data.classes import Classes, identity
from detector.data.coco_content import (
    Categories,
    categories_alone,
    entry_name,
    load_content,
    merged_classes,
    objects_of_images,
    read_categories,
    size_of,
)
from detector.data.dataset import Dataset
from detector.data.finder import PictureFinder, locate
from detector.data.paths import list_entries, list_names, relative_name, relative_prefix
from detector.images.read import read_image_size
from proposals.errors import UserError

LOOKED_FOR = "COCO (a JSON file with images, annotations and categories, or a folder with annotations/*.json)"

_ROBOFLOW = "_annotations.coco.json"
_HEAD = 65536
_PROBE = 200
"""Names that are looked up first in each folder where the pictures might be; all, where none of these is found."""


def recognise(root: Path) -> bool:
    """Whether ``root`` is a JSON file or a folder with COCO files."""
    return root.suffix.lower() == ".json" if root.is_file() else bool(annotation_files(root))


def splits(root: Path) -> tuple[str, ...]:
    """``train2017``, ``val2017``...; empty for a file, or a folder of a single file."""
    files = annotation_files(root)
    return tuple(files) if len(files) > 1 else ()


def read(root: Path, split_names: Sequence[str], wanted: Sequence[str] | None, images: Path | None = None) -> Dataset:
    """Read splits; ``train`` finds ``train2017`` if no other begins so.

    Raises:
        UserError: an unknown split, JSON of another kind, or no picture folder.
    """
    files, folder = annotation_files(root), root.parent if root.is_file() else root
    chosen = chosen_splits(root, files, split_names)
    contents = {name: load_content(files[name]) for name in chosen}
    found = {name: _picture_folder(folder, files[name], name, contents[name], images) for name in chosen}
    # One root for all: the picture folder itself, or the data folder above several.
    base = next(iter(found.values())) if len(set(found.values())) == 1 else folder
    label = "+".join(chosen) if len(files) > 1 or split_names else ""
    builder = Builder(root.stem if root.is_file() else root.name, "coco", base, label)
    tables = _tables(files, contents)
    for name in chosen:
        _add(builder, name, files[name], contents[name], found[name], tables[name])
    classes = merged_classes(tables, chosen).chosen(wanted, str(root))
    # Objects have names for keys: two files may have one id for two classes.
    return replace(builder.build(Classes.of_names(classes.names)), class_keys=classes.keys)


# --- files ------------------------------------------------------------------------------------------------------------


def annotation_files(root: Path) -> dict[str, Path]:
    """Annotation file of each split; of a single file, itself under the name ``""``."""
    if root.is_file():
        return {"": root}
    folders = list_entries(root).folders
    roboflow = {name: root / name / _ROBOFLOW for name in folders if (root / name / _ROBOFLOW).is_file()}
    if roboflow:
        return roboflow
    for folder in (root / "annotations", root / "Annotations", root):
        paths = [folder / name for name in list_names(folder) if name.lower().endswith(".json")]
        instances = [path for path in paths if path.name.startswith("instances_")]
        files = {path.stem.removeprefix("instances_"): path for path in instances or paths if _looks_like_coco(path)}
        if files:
            return files
    return {}


def _looks_like_coco(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    if len(head) < _HEAD:  # the whole file; Label Studio's YOLO export has one of categories alone
        return b'"images"' in head
    # A huge list may come first and fill the head; then its entries must be COCO's.
    return any(key in head for key in (b'"images"', b'"annotations"', b'"categories"'))


def chosen_splits(root: Path, files: dict[str, Path], split_names: Sequence[str]) -> list[str]:
    """The keys of ``files`` that ``split_names`` mean, each once; all where none is named.

    Raises:
        UserError: a name that means none of them, or several.
    """
    return list(dict.fromkeys(_choose(root, files, split) for split in split_names)) if split_names else list(files)


def _choose(root: Path, files: dict[str, Path], split: str) -> str:
    matches = [split] if split in files else [name for name in files if name.startswith(split)]
    if len(matches) != 1:
        has = ", ".join(files) if any(files) else "none, because it is a single file"
        raise UserError(f"{root} has no split {split!r}; it has {has}")
    return matches[0]


def _tables(files: dict[str, Path], contents: dict[str, dict[str, Any]]) -> dict[str, Categories]:
    """The categories of each split, also of those that are not read; those of a broken file that nobody wants, none."""
    tables: dict[str, Categories] = {}
    for name, file in files.items():
        if name in contents:
            tables[name] = read_categories(file, contents[name]["categories"])
            continue
        try:
            tables[name] = categories_alone(file)
        except UserError:
            tables[name] = {}
    return tables


def _picture_folder(root: Path, file: Path, split: str, content: dict[str, Any], images: Path | None) -> Path:
    """The folder that has most of a file's pictures, of those where they might be, or in and below ``images``.

    Raises:
        UserError: none of them has a single one.
    """
    every = [entry["file_name"] for entry in content["images"] if isinstance(entry, dict) and _has_name(entry)]
    split = split or file.stem.removeprefix("instances_")
    folders = list(dict.fromkeys(_candidates((images,) if images else (root, file.parent, file.parent.parent), split)))
    counters: tuple[Callable[[PictureFinder, Sequence[str]], int], ...] = (_count_exact, _count_located)
    for count in counters:
        for names in (every[:: max(1, len(every) // _PROBE)], every):
            counts = [count(PictureFinder(folder), names) for folder in folders]
            most = max(counts, default=0)
            if most:
                return folders[counts.index(most)]
    if every:
        place = f"{images} holds none of" if images else "no folder beside it holds"
        raise UserError(f"{file}: {place} its images ({every[0]}...); name their folder with --images")
    return images or root


def _count_exact(finder: PictureFinder, names: Sequence[str]) -> int:
    return sum(name is not None and finder.has(name) for name in (relative_name(n, finder.folder) for n in names))


def _count_located(finder: PictureFinder, names: Sequence[str]) -> int:
    return sum(bool(match.picture) for match in locate(finder, names))


def _candidates(bases: Sequence[Path], split: str) -> Iterator[Path]:
    for base in bases:
        for folder in (split, f"images/{split}", "images", "JPEGImages", "."):
            if (base / folder).is_dir():
                yield base / folder if folder != "." else base


# --- contents ---------------------------------------------------------------------------------------------------------


def _has_name(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("file_name"), str) and bool(entry["file_name"].strip())


def _add(
    builder: Builder, split: str, file: Path, content: dict[str, Any], folder: Path, categories: Categories
) -> None:
    before = builder.image_ids()  # each file counts its images anew
    by_image = objects_of_images(builder, file, content, categories)
    entries = []
    for position, entry in enumerate(content["images"]):
        key = identity(entry.get("id")) if isinstance(entry, dict) else None
        if key is None or not _has_name(entry):
            missing = "id" if key is None else "file_name"
            builder.fault("bad-annotation", file, f"image {entry_name(entry, position)} has no {missing}")
        else:
            entries.append((key, entry))
    matches = locate(PictureFinder(folder), [entry["file_name"] for _, entry in entries])
    prefix = relative_prefix(builder.root, folder)
    for (key, entry), match in zip(entries, matches, strict=True):
        if not match.picture:
            builder.fault(match.kind, file, f"{match.message} (image {str(key)[:60]})")
            continue
        size = size_of(entry)
        if size is None:
            try:
                size = read_image_size(folder / match.picture)
            except UserError as error:
                builder.fault("unreadable-image", folder / match.picture, str(error))
                continue
        image_id = f"{split}/{key}" if str(key) in before else str(key)
        builder.add(image_id, prefix + match.picture, size, f"{file} ({match.picture})", by_image[key])
