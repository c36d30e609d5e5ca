"""YOLO text folders: a ``.txt`` file for each picture, one line ``class x y width height`` for each object.

The numbers are the box's centre and size as shares of the picture. A line with more numbers is an outline
``x y x y ...`` and gives the box around it. A picture without a text file, or with an empty one, shows none of the
classes: that is how such sets mark pure background.

Read are a ``data.yaml`` (or another ``.yaml`` with ``names`` and ``train``) with its ``path``, ``train``, ``val`` and
``test``: folders or lists of pictures, relative to the file or absolute; or, without one, ``classes.txt`` or
``obj.names`` with text files beside the pictures or in ``labels/`` beside ``images/``. Sizes come from the pictures'
headers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from detector.data.builder import Builder, Classes, Object
from detector.data.dataset import Dataset
from detector.data.paths import PictureFinder, list_names, read_lines, read_text, relative_name, relative_prefix
from detector.images import read_image_size
from proposals.errors import UserError

LOOKED_FOR = "YOLO (data.yaml, or classes.txt with a .txt file for each picture)"

_SPLITS = ("train", "val", "test")
_CLASS_FILES = ("classes.txt", "obj.names", "_darknet.labels", "labels/classes.txt")
_NOT_LABELS = frozenset(("classes.txt", "train.txt", "val.txt", "test.txt", "requirements.txt", "readme.txt"))


def recognise(root: Path) -> bool:
    """Whether ``root`` is a data file (``.yaml``), or a folder with one or with text annotations."""
    if root.is_file():
        return root.suffix.lower() in (".yaml", ".yml")
    return _data_file(root) is not None or (_class_file(root) is not None and bool(_bare_folders(root)))


def splits(root: Path) -> tuple[str, ...]:
    """``train``, ``val`` and ``test``, as far as the data file or folders name them; empty if there are none."""
    data = root if root.is_file() else _data_file(root)
    if data is not None:
        content = _load(data)
        return tuple(split for split in _SPLITS if content.get(split))
    return tuple(name for name in _bare_folders(root) if name)


def read(root: Path, split_names: Sequence[str], wanted: Sequence[str] | None, images: Path | None = None) -> Dataset:
    """Read splits (none: everything).

    Raises:
        UserError: an unknown split, a broken data file, or text files for none of the pictures.
    """
    if images is not None:
        raise UserError("--images has no meaning for YOLO folders; write the folder into data.yaml")
    data = root if root.is_file() else _data_file(root)
    if data is not None:
        content = _load(data)
        base = _base(data, content)
        classes = _names(data, content)
        available = {split: _pictures(data, base, content[split]) for split in splits(root)}
    else:
        base = root
        class_file = _class_file(root)
        classes = _numbered(read_lines(class_file)) if class_file else _numbered([])
        available = {
            name: [(folder, picture) for picture in PictureFinder(folder).all()]
            for name, folder in _bare_folders(root).items()
        }
    builder = Builder(base.name, "yolo", base, "+".join(split_names))
    for split in split_names or tuple(available):
        if split not in available:
            raise UserError(f"{root} has no split {split!r}; it has {', '.join(s for s in available if s) or 'none'}")
        _read_pictures(builder, available[split], data or root)
    return builder.build(classes.chosen(wanted, str(root)))


# --- layout -----------------------------------------------------------------------------------------------------------


def _data_file(root: Path) -> Path | None:
    names = [name for name in list_names(root) if name.lower().endswith((".yaml", ".yml"))]
    names.sort(key=lambda name: (Path(name).stem != "data", name))
    for name in names:
        text = read_text(root / name)
        if "names" in text and "train" in text:
            return root / name
    return None


def _class_file(root: Path) -> Path | None:
    return next((root / name for name in _CLASS_FILES if (root / name).is_file()), None)


def _bare_folders(root: Path) -> dict[str, Path]:
    """Picture folder of each split (``""``: no splits) of a set without a data file."""
    single = [folder for folder in (root / "images", root) if _has_labels(folder)]
    if single:
        return {"": single[0]}
    found: dict[str, Path] = {}
    for split in (*_SPLITS, "valid"):
        for folder in (root / "images" / split, root / split / "images", root / split):
            if _has_labels(folder):
                found.setdefault(split, folder)
    return found


def _has_labels(folder: Path) -> bool:
    """Whether a text annotation belongs to any of the folder's pictures."""
    names = PictureFinder(folder).all() if folder.is_dir() else []
    return any(label_file(folder / name).is_file() for name in names)


def label_file(picture: Path) -> Path:
    """Where the annotation of ``picture`` is: ``labels`` in place of the last ``images`` in its path, or beside it."""
    parts = list(picture.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
        candidate = Path(*parts).with_suffix(".txt")
        if candidate.is_file() or not picture.with_suffix(".txt").is_file():
            return candidate
    beside = picture.with_suffix(".txt")
    in_labels = picture.parent / "labels" / beside.name
    return in_labels if in_labels.is_file() and not beside.is_file() else beside


# --- the data file ----------------------------------------------------------------------------------------------------


def _load(data: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(read_text(data))
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{data} is not YAML ({reason}); mend it") from None
    if not isinstance(content, dict) or not any(content.get(split) for split in _SPLITS):
        raise UserError(f"{data} names no train, val or test pictures; add e.g. `train: images/train`")
    return content


def _numbered(names: Sequence[str]) -> Classes:
    """Classes whose keys are their numbers; a name that stands twice gets its number in brackets."""
    unique = [name if list(names).count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names)]
    return Classes(tuple(range(len(names))), tuple(unique))


def _names(data: Path, content: dict[str, Any]) -> Classes:
    names = content.get("names")
    if isinstance(names, dict) and all(isinstance(key, int) for key in names):
        classes = _numbered([str(names[key]) for key in sorted(names)])
        return Classes(tuple(sorted(names)), classes.names)
    if isinstance(names, list) and names:
        return _numbered([str(name) for name in names])
    raise UserError(f"{data} has no `names`: the list of class names; add it")


def _base(data: Path, content: dict[str, Any]) -> Path:
    """The data folder: ``path`` where it exists, or the data file's own folder."""
    given = content.get("path")
    if not given:
        return data.parent
    path = Path(str(given))
    if path.is_absolute():
        if not path.is_dir():
            raise UserError(f"{data}: `path` {path} does not exist; correct it or remove it")
        return path
    name = relative_name(str(given), data.parent)
    # `path: .`, and paths that mean the working directory of the tool that wrote them: the file lies in its data.
    return data.parent / name if name and (data.parent / name).is_dir() else data.parent


def _pictures(data: Path, base: Path, entry: Any) -> list[tuple[Path, str]]:
    """Folder and name of each picture of ``train``, ``val`` or ``test``."""
    found: list[tuple[Path, str]] = []
    for item in entry if isinstance(entry, list) else [entry]:
        place = _place(data, base, str(item))
        if place.is_file():
            found.extend((place.parent, line.removeprefix("./")) for line in read_lines(place))
        elif place.is_dir():
            finder = PictureFinder(place)
            found.extend((place, name) for name in finder.all())
            below = sorted(path for path in place.rglob("*") if path.is_dir())
            found.extend(
                (place, f"{sub.relative_to(place).as_posix()}/{n}") for sub in below for n in PictureFinder(sub).all()
            )
        else:
            raise UserError(f"{data}: {item} is neither a folder of pictures nor a list of them; correct it")
    return found


def _place(data: Path, base: Path, item: str) -> Path:
    if Path(item).is_absolute():
        return Path(item)
    name = relative_name(item, base)
    if name is None and item.startswith("../"):
        # Exports of annotation services name their own folders as if from one below.
        name = relative_name(item.removeprefix("../"), base)
    if os.path.normpath(item) == ".":
        return base
    if name is None:
        raise UserError(f"{data}: {item} leads out of the data folder; write a path within it, or an absolute one")
    return base / name


# --- annotations ------------------------------------------------------------------------------------------------------


def _read_pictures(builder: Builder, pictures: Sequence[tuple[Path, str]], where: Path) -> None:
    finders: dict[Path, PictureFinder] = {}
    labelled = 0
    for folder, given in pictures:
        finder = finders.setdefault(folder, PictureFinder(folder))
        name = relative_name(given, folder)
        if name is None:
            builder.fault("escaping-path", where, f"{given!r} leads out of {folder}")
            continue
        picture = finder.by_name(name)
        if picture is None:
            builder.fault("missing-image", where, f"there is no picture {name} in {folder}")
            continue
        path = folder / picture
        try:
            size = read_image_size(path)
        except UserError as error:
            builder.fault("unreadable-image", path, str(error))
            continue
        label = label_file(path)
        labelled += label.is_file()
        try:
            objects = list(_objects(builder, label, size)) if label.is_file() else []
        except UserError as error:
            builder.fault("bad-annotation", label, str(error))
            continue
        relative = relative_prefix(builder.root, folder) + picture
        builder.add(relative.rpartition(".")[0], relative, size, str(label), objects)
    if pictures and not labelled:
        raise UserError(f"{where}: none of the {len(pictures)} pictures has a text annotation (labels/<name>.txt)")


def _objects(builder: Builder, label: Path, size: tuple[int, int]) -> Iterator[Object]:
    height, width = size
    for number, line in enumerate(read_text(label).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            key, values = int(float(words[0])), [float(word) for word in words[1:]]
        except (ValueError, OverflowError):
            builder.fault("not-a-number", label, f"line {number} is not numbers only: {line.strip()[:60]!r}")
            continue
        if len(values) == 4:
            x, y, w, h = values
            x1, y1, x2, y2 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        elif len(values) >= 6 and len(values) % 2 == 0:
            x1, y1, x2, y2 = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
        else:
            builder.fault("not-a-number", label, f"line {number} has {len(values)} numbers behind the class, not 4")
            continue
        yield Object(key, x1 * width, y1 * height, x2 * width, y2 * height)
