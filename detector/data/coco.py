"""COCO: one JSON file of images, annotations and categories.

Read are a single file, a folder with ``annotations/instances_<split>.json`` (or other ``annotations/<split>.json``), a
folder with JSON files in it, and folders ``train/_annotations.coco.json``... The picture folder is searched for beside
the file and in the data folder; ``images=`` names another, relative to the data folder or absolute.

Boxes are ``[x, y, width, height]`` in continuous pixels and are taken as they are; ``area`` is the segment's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from detector.data.builder import Builder, Classes, Object
from detector.data.dataset import Dataset
from detector.data.paths import PictureFinder, list_names, read_text, relative_name
from detector.images import read_image_size
from proposals.errors import UserError

LOOKED_FOR = "COCO (a JSON file with images, annotations and categories, or a folder with annotations/*.json)"

_ROBOFLOW = "_annotations.coco.json"
_HEAD = 65536
_PROBE = 50
"""Names that are looked up in each folder where the pictures might be."""


def recognise(root: Path) -> bool:
    """Whether ``root`` is a JSON file or a folder with COCO files."""
    return root.suffix.lower() == ".json" if root.is_file() else bool(_files(root))


def splits(root: Path) -> tuple[str, ...]:
    """``train2017``, ``val2017``...; empty for a file, or a folder of a single file."""
    files = {} if root.is_file() else _files(root)
    return tuple(files) if len(files) > 1 else ()


def read(root: Path, split_names: Sequence[str], wanted: Sequence[str] | None, images: Path | None = None) -> Dataset:
    """Read splits; ``train`` finds ``train2017`` if no other begins so.

    Raises:
        UserError: an unknown split, JSON of another kind, or no picture folder.
    """
    if root.is_file():
        files, folder = {"": root}, root.parent
    else:
        files, folder = _files(root), root
    chosen = [_choose(root, files, split) for split in split_names] if split_names else list(files)
    contents = {name: _load(files[name]) for name in chosen}
    found = {name: images or _picture_folder(folder, files[name], name, contents[name]) for name in chosen}
    # One root for all: the picture folder itself, or the data folder above several.
    base = next(iter(found.values())) if len(set(found.values())) == 1 else folder
    label = "+".join(chosen) if len(files) > 1 or split_names else ""
    builder = Builder(root.stem if root.is_file() else root.name, "coco", base, label)
    classes: Classes | None = None
    for name in chosen:
        table = _categories(files[name], contents[name])
        if classes is not None and table != classes:
            raise UserError(f"{files[name]}: other categories than in {files[chosen[0]]}; read the splits one by one")
        classes = table
        _add(builder, files[name], contents[name], found[name])
    assert classes is not None
    return builder.build(classes.chosen(wanted, str(root)))


# --- files ------------------------------------------------------------------------------------------------------------


def _files(root: Path) -> dict[str, Path]:
    """Annotation file of each split."""
    roboflow = {entry.name: entry / _ROBOFLOW for entry in sorted(root.iterdir()) if (entry / _ROBOFLOW).is_file()}
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
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    # A huge list may come first and fill the head; then its entries must be COCO's.
    return any(key in head for key in (b'"images"', b'"annotations"', b'"categories"'))


def _choose(root: Path, files: dict[str, Path], split: str) -> str:
    matches = [split] if split in files else [name for name in files if name.startswith(split)]
    if len(matches) != 1:
        has = ", ".join(files) if any(files) else "none, because it is a single file"
        raise UserError(f"{root} has no split {split!r}; it has {has}")
    return matches[0]


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON (line {error.lineno}: {error.msg}); copy it again") from None
    except RecursionError:
        raise UserError(f"{path} is not COCO's JSON (nested too deep); give the file with the annotations") from None
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise UserError(f"{path} is JSON, but not COCO's: it has no list `images`; give the file with the annotations")
    for key in ("annotations", "categories"):
        if not isinstance(content.setdefault(key, []), list):
            raise UserError(f"{path}: `{key}` is not a list; give the file with the annotations")
    return content


def _picture_folder(root: Path, file: Path, split: str, content: dict[str, Any]) -> Path:
    names = [str(entry.get("file_name", "")) for entry in content["images"][:_PROBE] if isinstance(entry, dict)]
    split = split or file.stem.removeprefix("instances_")
    best, most = root, 0
    for folder in dict.fromkeys(_candidates(root, file, split)):
        finder = PictureFinder(folder)
        relative = [relative_name(name, folder) for name in names]
        count = sum(name is not None and finder.by_name(name) is not None for name in relative)
        if count > most:
            best, most = folder, count
    if names and not most:
        raise UserError(f"{file}: no folder beside it holds its pictures ({names[0]}...); name it with --images")
    return best


def _candidates(root: Path, file: Path, split: str) -> Iterator[Path]:
    for base in (root, file.parent, file.parent.parent):
        for folder in (split, f"images/{split}", "images", "JPEGImages", "."):
            if (base / folder).is_dir():
                yield base / folder if folder != "." else base


# --- contents ---------------------------------------------------------------------------------------------------------


def _categories(file: Path, content: dict[str, Any]) -> Classes:
    keys: list[str | int] = []
    names: list[str] = []
    for entry in content["categories"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), (int, str)):
            raise UserError(f"{file}: a category has no id; mend its `categories`")
        if entry["id"] in keys:
            raise UserError(f"{file}: category id {entry['id']} stands there twice; mend its `categories`")
        keys.append(entry["id"])
        names.append(" ".join(str(entry.get("name", entry["id"])).split()))
    unique = [name if names.count(name) == 1 else f"{name} ({key})" for key, name in zip(keys, names, strict=True)]
    return Classes(tuple(keys), tuple(unique))


def _add(builder: Builder, file: Path, content: dict[str, Any], folder: Path) -> None:
    by_image: dict[Any, list[Object]] = {}
    for entry in content["images"]:
        if isinstance(entry, dict) and isinstance(entry.get("id"), (int, str)):
            by_image[entry["id"]] = []
    for position, entry in enumerate(content["annotations"]):
        item = _object(entry)
        owner = entry.get("image_id") if isinstance(entry, dict) else None
        if item is None:
            builder.fault("bad-annotation", file, f"annotation {_name(entry, position)} has no bbox or category_id")
        elif not isinstance(owner, (int, str)) or owner not in by_image:
            builder.fault("orphan-box", file, f"annotation {_name(entry, position)} is of image {owner!r}, not listed")
        else:
            by_image[owner].append(item)

    finder = PictureFinder(folder)
    prefix = "" if builder.root == folder else f"{folder.relative_to(builder.root).as_posix()}/"
    for position, entry in enumerate(content["images"]):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), (int, str)):
            builder.fault("bad-annotation", file, f"image {_name(entry, position)} has no id")
            continue
        given = str(entry.get("file_name", ""))
        name = relative_name(given, folder)
        if name is None:
            builder.fault("escaping-path", file, f"file_name {given!r} of image {entry['id']} leads out of {folder}")
            continue
        picture = finder.by_name(name)
        if picture is None:
            builder.fault("missing-image", file, f"there is no picture {name} in {folder} (image {entry['id']})")
            continue
        size = _size(entry)
        if size is None:
            try:
                size = read_image_size(folder / picture)
            except UserError as error:
                builder.fault("unreadable-image", folder / picture, str(error))
                continue
        builder.add(str(entry["id"]), prefix + picture, size, f"{file} ({picture})", by_image[entry["id"]])


def _object(entry: Any) -> Object | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("category_id"), (int, str)):
        return None
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        return None
    x, y, width, height = (_number(value) for value in box)
    ignore, crowd = bool(entry.get("ignore")), bool(entry.get("iscrowd"))
    area = _number(entry.get("area"))
    return Object(entry["category_id"], x, y, x + width, y + height, ignore, crowd, area)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e300 else float("nan")


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    height, width = _number(entry.get("height")), _number(entry.get("width"))
    return (int(height), int(width)) if 1 <= height < 2**31 and 1 <= width < 2**31 else None


def _name(entry: Any, position: int) -> str:
    return str(entry["id"]) if isinstance(entry, dict) and "id" in entry else f"number {position}"
