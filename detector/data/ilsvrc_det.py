"""ILSVRC DET: 200 classes named by wnids, XML annotations, lists for train, val, val1, val2, and a blacklist.

Layouts that are read, from the data folder or one below it that is called ``ILSVRC*``:

- ``Annotations/DET``, ``Data/DET`` and ``ImageSets/DET`` (the kit of 2015 and later);
- ``ILSVRC201x_DET_bbox_train``, ``ILSVRC201x_DET_train``, ``..._bbox_val``, ``..._val`` (the archives of 2013 and 2014)
  with the development kit's ``data/det_lists``.

Lists of other people's splits, such as R-CNN's ``val1.txt`` and ``val2.txt``, go beside the kit's. ``train`` is its own
list, or else every picture that a list ``train_<class>.txt`` (``train_pos_<class>.txt``) marks 1, positive: all objects
of that class are annotated in it, though those of other classes need not be (so never mine negatives there).

The XML is VOC's but counts from 0: 1 is added to xmax and ymax. A picture without an XML file has no objects.
``Dataset.blacklist`` holds the pairs of picture and class that the evaluation leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.data.builder import Builder
from detector.data.classes import Classes
from detector.data.dataset import Dataset
from detector.data.finder import Match, PictureFinder, checked
from detector.data.paths import list_names, read_lines, relative_name, relative_prefix, whole_number
from detector.data.voc_xml import NOTHING, add_annotation, parse_file
from proposals.errors import UserError

LOOKED_FOR = "ILSVRC DET (Annotations/DET with Data/DET, or ILSVRC201x_DET_bbox_val with ILSVRC201x_DET_val)"

_TABLE = "map_det.txt"
CLASS_TABLE = Path(__file__).with_name(_TABLE)
"""The 200 classes, as the development kit has them."""
_CLASS_LIST = re.compile(r"train_(pos_)?(\d+)\.txt")
_NUMBERED = re.compile(r"(.+?)(?:\s+(-?\d+))?")
"""A line of a list: a name, and behind it a number, or a flag."""
_WNID_IMAGE = re.compile(r"(n\d{8})_\d+")


@dataclass(frozen=True, slots=True)
class _Layout:
    annotations: dict[str, Path]  # by train, val, test
    pictures: dict[str, Path]
    lists: Path | None
    kits: tuple[Path, ...]  # data folders of development kits, for the class table and the blacklist


def recognise(root: Path) -> bool:
    """Whether the folder is in one of the layouts."""
    return _layout(root) is not None


def splits(root: Path) -> tuple[str, ...]:
    """The lists, with the 200 class lists of ``train`` as one."""
    layout = _layout(root)
    if layout is None:
        return ()
    names = [name for name in list_names(layout.lists) if name.endswith(".txt")] if layout.lists else []
    found = {name[:-4] for name in names if not _CLASS_LIST.fullmatch(name) and not name.startswith("train_neg")}
    if any(_CLASS_LIST.fullmatch(name) for name in names):
        found.add("train")
    return tuple(sorted(found or layout.annotations))


def read(root: Path, split_names: Sequence[str], wanted: Sequence[str] | None, images: Path | None = None) -> Dataset:
    """Read splits (see the module's head for what ``train`` is).

    Raises:
        UserError: an unknown split, or one without any annotation.
    """
    if images is not None:
        raise UserError("--images has no meaning for ILSVRC DET; put the images into Data/DET")
    layout = _layout(root)
    if layout is None:
        raise UserError(f"{root}: no {LOOKED_FOR}")
    builder = Builder(root.name, "ilsvrc_det", root, "+".join(split_names))
    for split in split_names:
        ids = _entries(layout, split)
        if ids is None:
            raise UserError(f"{root} has no split {split!r}; it has {', '.join(splits(root))}")
        _read_split(builder, layout, split, ids)
    classes = _class_table(layout).chosen(wanted, str(root))
    return builder.build(classes, _blacklist(layout))


def _layout(root: Path) -> _Layout | None:
    bases = [root, *sorted(entry for entry in root.iterdir() if entry.name.startswith("ILSVRC") and entry.is_dir())]
    kits = [kit for base in (*bases, root.parent) for kit in _kit_folders(base)]
    for base in bases:
        annotations, pictures = base / "Annotations" / "DET", base / "Data" / "DET"
        if annotations.is_dir() and pictures.is_dir():
            kinds = [kind for kind in ("train", "val", "test") if (pictures / kind).is_dir()]
            lists = base / "ImageSets" / "DET"
            return _Layout(
                {kind: annotations / kind for kind in kinds if (annotations / kind).is_dir()},
                {kind: pictures / kind for kind in kinds},
                lists if lists.is_dir() else None,
                tuple(kits),
            )
        for year in ("2014", "2013"):
            stem = f"ILSVRC{year}_DET"
            kinds = [k for k in ("train", "val") if all((base / f"{stem}{m}_{k}").is_dir() for m in ("", "_bbox"))]
            if kinds:
                lists_found = [kit / "det_lists" for kit in kits if (kit / "det_lists").is_dir()]
                return _Layout(
                    {kind: base / f"{stem}_bbox_{kind}" for kind in kinds},
                    {kind: base / f"{stem}_{kind}" for kind in kinds},
                    lists_found[0] if lists_found else None,
                    tuple(kits),
                )
    return None


def _kit_folders(base: Path) -> Iterator[Path]:
    for pattern in ("devkit/data", "ILSVRC*devkit*/data", "data"):
        yield from sorted(path for path in base.glob(pattern) if path.is_dir())


def _entries(layout: _Layout, split: str) -> list[str] | None:
    """Picture ids of a split; None if there is no such split."""
    if layout.lists is not None:
        path = layout.lists / f"{split}.txt"
        if path.is_file():
            positive_only = _CLASS_LIST.fullmatch(path.name) is not None
            rows = (_NUMBERED.fullmatch(line) for line in read_lines(path))
            return [row[1] for row in rows if row and (not positive_only or row[2] in (None, "1"))]
        names = [name for name in list_names(layout.lists) if _CLASS_LIST.fullmatch(name)] if split == "train" else []
        names.sort(key=lambda name: int("".join(filter(str.isdigit, name))))
        ids = [image for name in names for image in _entries(layout, name[:-4]) or ()]
        return list(dict.fromkeys(ids)) or None
    if split not in layout.annotations:
        return None
    folder = layout.annotations[split]
    xmls = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() == ".xml")
    return sorted(path.with_suffix("").as_posix() for path in xmls)


def _read_split(builder: Builder, layout: _Layout, split: str, ids: Sequence[str]) -> None:
    kind = next((kind for kind in ("train", "test") if split.startswith(kind)), "val")
    if kind not in layout.annotations:
        raise UserError(f"split {split!r} has no annotations: there is no folder for {kind} among them")
    pictures, xml_folder = layout.pictures[kind], layout.annotations[kind]
    finder = PictureFinder(pictures)
    prefix = relative_prefix(builder.root, pictures)
    xmls = PictureFinder(xml_folder)
    annotated = pictured = 0
    for given in ids:
        name = relative_name(given.removeprefix(f"{kind}/"), pictures)
        if name is None:
            builder.fault("escaping-path", layout.lists or xml_folder, f"{given!r} leads out of the data folder")
            continue
        found = finder.by_stem(name) or finder.by_folded_stem(name)
        if not found and (match := _WNID_IMAGE.fullmatch(name)):  # the lists of 2013 leave the class's folder out
            name = f"{match[1]}/{name}"
            found = finder.by_stem(name) or finder.by_folded_stem(name)
        missing = Match("", "missing-image", "there is no image of this name")
        picture = checked(finder, found[0]) if found else missing
        if not picture.picture:
            builder.fault(picture.kind, pictures / name, picture.message)
            continue
        if len(found) > 1:
            text = f"{found[0]} is taken; it shares its name with {' and '.join(found[1:])}"
            builder.fault("same-stem", pictures / name, text)
        pictured += 1
        xml_names = xmls.by_name(f"{name}.xml")
        xml = xml_folder / (xml_names[0] if xml_names else f"{name}.xml")
        annotation = parse_file(xml, builder, first_pixel=0) if xml_names else NOTHING
        if annotation is not None:
            annotated += bool(xml_names)
            add_annotation(builder, name.rpartition("/")[2], prefix + picture.picture, xml, annotation)
    if pictured and not annotated:
        raise UserError(f"{xml_folder}: none of the {pictured} images of split {split!r} has an annotation there")


def _class_table(layout: _Layout) -> Classes:
    """The kit's ``map_det.txt``, or that of the package."""
    return read_class_table(next((kit / _TABLE for kit in layout.kits if (kit / _TABLE).is_file()), CLASS_TABLE))


def read_class_table(path: Path = CLASS_TABLE) -> Classes:
    """The classes of a file with lines ``wnid id word``, by id; UserError where a wnid stands there twice."""
    rows = sorted(
        (number, words[0], words[2].replace("_", " "))
        for words in (line.split(None, 2) for line in read_lines(path))
        if len(words) == 3 and (number := whole_number(words[1])) is not None
    )
    keys = [row[1] for row in rows]
    if len(set(keys)) != len(keys):
        raise UserError(f"{path}: a wnid stands there twice; copy the file again")
    return Classes.named(keys, [row[2] for row in rows])


def _blacklist(layout: _Layout) -> list[tuple[str, str | int]]:
    """Pairs (image id, wnid): the kit numbers the pictures as ``val.txt`` does."""
    paths = [path for kit in layout.kits for path in sorted(kit.glob("*det_validation_blacklist.txt"))]
    if not paths or layout.lists is None or not (layout.lists / "val.txt").is_file():
        return []
    numbered, listed = (
        [words for words in map(str.split, read_lines(path)) if len(words) == 2]
        for path in (layout.lists / "val.txt", paths[-1])
    )
    image_of = {number: image.rpartition("/")[2] for image, number in numbered}
    return [(image_of[number], wnid) for number, wnid in listed if number in image_of]
