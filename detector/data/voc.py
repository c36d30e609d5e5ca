"""PASCAL VOC: XML annotations, from the kit's folders or from a labelling tool.

Layouts that are read:

- a year of the kit: ``Annotations/*.xml``, ``JPEGImages/``, ``ImageSets/Main/<split>.txt``;
- many years: a folder of such folders (``VOCdevkit/VOC2007``, ``VOCdevkit/VOC2012``...). A split is then taken from
  every year that has it; ``2007/trainval`` names one year's;
- photographs with their XML files beside them, or in ``Annotations/`` (``annotations``, ``labels``, ``xml``), as
  labelling tools leave them; no lists are needed;
- folders ``train/``, ``test/``... each like the last; folders with other names (one for each class, say) are parts of
  one set without splits.

Coordinates in the XML count from 1 and include the last pixel: 1 is subtracted from xmin and ymin only. A missing
``<difficult>``, ``<pose>``, ``<truncated>`` or ``<size>`` is no fault.

Where there are no lists, a labelling tool and other people's pictures are at work, so sizes are compared with the
pictures' headers: some tools show a photograph as it is stored, not as its EXIF orientation turns it; their boxes are
turned with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.data.builder import Builder, Classes
from detector.data.dataset import Dataset, size_mismatch_text
from detector.data.paths import PictureFinder, list_names, read_lines, relative_name, relative_prefix
from detector.data.voc_xml import Annotation, add_annotation, parse_file, turn
from detector.images import read_image_size, read_orientation
from proposals.errors import UserError

LOOKED_FOR = "PASCAL VOC (Annotations/*.xml with ImageSets/Main/*.txt, or photographs with XML files beside them)"

_ANNOTATION_FOLDERS = ("Annotations", "annotations", "labels", "xml", "xmls")
_PICTURE_FOLDERS = ("JPEGImages", "images", "Images", "img", "")
_SPLIT_FOLDERS = re.compile(r"(train(ing|val)?|val(id|idation)?|test(ing)?|eval)\d*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Part:
    """One folder of annotations; ``name`` is the year's folder or the split's."""

    name: str
    annotations: Path
    pictures: Path
    lists: Path | None  # ImageSets/Main, or None: every XML file counts


def recognise(root: Path) -> bool:
    """Whether the folder is in one of the layouts."""
    return bool(_parts(root))


def splits(root: Path) -> tuple[str, ...]:
    """Names of the lists, or of the folders that stand for them; empty if the set has no splits."""
    parts = _parts(root)
    if parts[0].lists is None:
        return tuple(part.name for part in parts if part.name) if _are_splits(parts) else ()
    found: dict[str, None] = {}
    for part in parts:
        names = [Path(name).stem for name in list_names(part.lists or part.annotations) if name.endswith(".txt")]
        # aeroplane_train.txt is the class aeroplane in the split train.
        found |= dict.fromkeys(n for n in names if n.rpartition("_")[2] not in names or "_" not in n)
    return tuple(found)


def read(root: Path, split_names: Sequence[str], wanted: Sequence[str] | None, images: Path | None = None) -> Dataset:
    """Read splits (none: everything).

    Args:
        root: the data folder. split_names: from :func:`splits`, or ``year/split``. wanted: class names in label order.
        images: the picture folder, if it is not where the kit has it.

    Raises:
        UserError: an unknown split, or nothing in it can be used.
    """
    parts = _parts(root)
    builder = Builder(root.name, "voc", root if images is None else images, "+".join(split_names))
    parsed: dict[Path, Annotation | None] = {}
    finders: dict[Path, PictureFinder] = {}
    for split in split_names or ("",):
        chosen = _entries(parts, split)
        if chosen is None:
            raise UserError(f"{root} has no split {split!r}; it has {', '.join(splits(root)) or 'none'}")
        for part, stems in chosen:
            folder = images or part.pictures
            finder = finders.setdefault(folder, PictureFinder(folder))
            prefix = f"{part.name}/" if part.name and part.lists is None and not split else ""
            _read_part(builder, part, stems, finder, parsed, prefix)
    if wanted is not None:
        classes = Classes.of_names(sorted(str(key) for key in builder.class_keys())).chosen(wanted, str(root))
    else:
        classes = _classes(root, parts, builder, parsed)
    return builder.build(classes)


# --- layout -----------------------------------------------------------------------------------------------------------


def _parts(root: Path) -> tuple[_Part, ...]:
    if (root / "VOCdevkit").is_dir() and not (root / "Annotations").is_dir():
        root = root / "VOCdevkit"
    kit = _kit(root, "")
    if kit:
        return (kit,)
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    years = tuple(part for folder in folders if (part := _kit(folder, folder.name)))
    if years:
        return years
    bare = _bare(root, "")
    if bare:
        return (bare,)
    return tuple(part for folder in folders if (part := _bare(folder, folder.name)))


def _are_splits(parts: Sequence[_Part]) -> bool:
    """Whether folders without lists are splits by their names."""
    return all(_SPLIT_FOLDERS.fullmatch(part.name) for part in parts)


def _kit(folder: Path, name: str) -> _Part | None:
    lists = folder / "ImageSets" / "Main"
    if not (folder / "Annotations").is_dir() or not any(n.endswith(".txt") for n in list_names(lists)):
        return None
    return _Part(name, folder / "Annotations", folder / "JPEGImages", lists)


def _bare(folder: Path, name: str) -> _Part | None:
    for xml_folder in (folder, *(folder / n for n in _ANNOTATION_FOLDERS)):
        if not any(n.endswith(".xml") for n in list_names(xml_folder)):
            continue
        for pictures in (xml_folder, *(folder / n for n in _PICTURE_FOLDERS)):
            if PictureFinder(pictures).all():
                return _Part(name, xml_folder, pictures, None)
    return None


def _entries(parts: Sequence[_Part], split: str) -> list[tuple[_Part, list[str]]] | None:
    """Parts and stems of ``split``; None if there is no such split."""
    if parts[0].lists is None:
        chosen = [part for part in parts if not split or part.name == split]
        return [(part, _xml_stems(part)) for part in chosen] or None
    if not split:
        return [(part, _xml_stems(part)) for part in parts]
    year, slash, list_name = split.rpartition("/")
    found = []
    for part in parts:
        path = (part.lists or part.annotations) / f"{list_name}.txt"
        if (not slash or part.name in (year, f"VOC{year}")) and path.is_file():
            # A class's list marks pictures without the class by -1.
            words = [line.split() for line in read_lines(path)]
            found.append((part, [line[0] for line in words if line[1:2] != ["-1"]]))
    return found or None


def _xml_stems(part: _Part) -> list[str]:
    return [name[:-4] for name in list_names(part.annotations) if name.endswith(".xml")]


# --- reading ----------------------------------------------------------------------------------------------------------


def _read_part(
    builder: Builder,
    part: _Part,
    stems: Sequence[str],
    finder: PictureFinder,
    parsed: dict[Path, Annotation | None],
    id_prefix: str,
) -> None:
    prefix = relative_prefix(builder.root, finder.folder)
    used: set[str] = set()
    missing = 0
    for stem in stems:
        name = relative_name(stem, finder.folder)
        if name is None:
            builder.fault("escaping-path", part.lists or part.annotations, f"{stem!r} leads out of the data folder")
            continue
        xml = part.annotations / f"{name}.xml"
        annotation = parsed[xml] = parse_file(xml, builder)
        if annotation is None:
            missing += 1
            continue
        picture = finder.by_stem(name) or _by_filename(finder, annotation.filename)
        if picture is None:
            builder.fault("missing-image", xml, f"there is no picture {name} in {finder.folder}")
            continue
        used.add(picture)
        if part.lists is None:
            annotation = _compared(builder, prefix + picture, annotation)
        if annotation is not None:
            add_annotation(builder, id_prefix + name, prefix + picture, xml, annotation)
    if stems and missing == len(stems):
        raise UserError(
            f"{part.annotations}: none of {missing} annotations can be read ({builder.faults[-1].message}); "
            "use `detector detect` for pictures without annotations"
        )
    if part.lists is None:
        for picture in finder.all():
            if picture not in used and not (part.annotations / f"{Path(picture).stem}.xml").is_file():
                builder.fault("missing-annotation", finder.folder / picture, "the picture has no XML file")


def _by_filename(finder: PictureFinder, filename: str) -> str | None:
    name = relative_name(filename, finder.folder) if filename else None
    return finder.by_name(name) if name else None


def _compared(builder: Builder, picture: str, annotation: Annotation) -> Annotation | None:
    """The annotation in the frame of the upright picture; None, with a fault, if it is of another size."""
    path = builder.root / picture
    try:
        found = read_image_size(path)
        orientation = read_orientation(path) if annotation.size == found[::-1] else 1
    except UserError as error:
        builder.fault("unreadable-image", path, str(error))
        return None
    if annotation.size is None or annotation.size == found:
        return annotation._replace(size=found)
    if orientation >= 5:
        text = "the annotation is of the picture as it is stored; its boxes were turned with it (EXIF orientation)"
        builder.fault("turned-boxes", path, text)
        turned = tuple(turn(item, found, orientation) for item in annotation.objects)
        return annotation._replace(size=found, objects=turned)
    builder.fault("size-mismatch", path, size_mismatch_text(str(path), found, annotation.size))
    return None


def _classes(root: Path, parts: Sequence[_Part], builder: Builder, parsed: dict[Path, Annotation | None]) -> Classes:
    """The classes of the whole set, not of the split, so that labels mean the same in each."""
    if (root / "classes.txt").is_file():
        return Classes.of_names(list(dict.fromkeys(read_lines(root / "classes.txt"))))
    listed = sorted(set(_listed_classes(parts)))
    keys = {str(key) for key in builder.class_keys()}
    if listed and keys <= set(listed):
        return Classes.of_names(listed)
    silent = Builder("", "voc", root, "")  # faults of other splits are reported when those are read
    for part in parts:
        for stem in _xml_stems(part):
            xml = part.annotations / f"{stem}.xml"
            annotation = parsed[xml] if xml in parsed else parse_file(xml, silent)
            if annotation is not None:
                keys |= {str(item.key) for item in annotation.objects}
    return Classes.of_names(sorted(keys))


def _listed_classes(parts: Sequence[_Part]) -> Iterator[str]:
    for part in parts:
        if part.lists is not None:
            names = {name[:-4] for name in list_names(part.lists) if name.endswith(".txt")}
            for name in names:
                class_name, underscore, split = name.rpartition("_")
                if underscore and split in names:
                    yield class_name
