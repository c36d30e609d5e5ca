"""PASCAL VOC: XML annotations, from the kit's folders or from a labelling tool.

Layouts that are read:

- a year of the kit: ``Annotations/*.xml``, ``JPEGImages/``, ``ImageSets/Main/<split>.txt``;
- many years: a folder of such folders (``VOCdevkit/VOC2007``, ``VOCdevkit/VOC2012``...). A split is then taken from
  every year that has it; ``2007/trainval`` names one year's;
- photographs with their XML files beside them, or in ``Annotations/`` (``annotations``, ``labels``, ``xml``), as
  labelling tools leave them; no lists are needed;
- folders ``train/``, ``test/``... each like the last, where an id that is taken has its folder's name before it;
  folders with other names (one for each class, say) are parts of one set without splits.

A line of a list is a name, with or without quotes and a flag behind it (``1``, ``0``, or ``-1``: the picture is not of
the class). The picture of an annotation is the one that its ``<filename>`` names, else the one that is called like it.

Coordinates in the XML count from 1 and include the last pixel: 1 is subtracted from xmin and ymin only. A missing
``<difficult>``, ``<pose>``, ``<truncated>`` or ``<size>`` is no fault.

Where there are no lists, a labelling tool and other people's pictures are at work, so sizes are compared with the
pictures' headers: some tools show a photograph as it is stored, not as its EXIF orientation turns it; their boxes are
turned with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from detector.data.builder import Builder
from detector.data.classes import Classes, class_name
from detector.data.dataset import Dataset, size_mismatch_text
from detector.data.faults import count_faults
from detector.data.finder import ANNOTATION_FOLDERS, UNREAD, PictureFinder, locate_annotated, stem_of, unread_images
from detector.data.paths import list_entries, list_names, read_bytes, read_lines, relative_name, relative_prefix, tails
from detector.data.voc_xml import Annotation, add_annotation, parse_file, turn
from detector.images.read import SUFFIXES, read_image_size, read_orientation
from proposals.errors import UserError

LOOKED_FOR = "PASCAL VOC (Annotations/*.xml with ImageSets/Main/*.txt, or photographs with XML files beside them)"

_PICTURE_FOLDERS = ("JPEGImages", "images", "Images", "img", "")
_FLAGGED = re.compile(r"(.*\S)\s+(-1|0|1)")
_PROBE = 20
"""XML files that are looked into where no picture lies beside them."""
_SPLIT_FOLDERS = re.compile(r"(train(ing|val)?|val(id|idation)?|test(ing)?|eval)\d*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Part:
    """One folder of annotations; ``name`` is the year's folder or the split's."""

    name: str
    annotations: Path
    pictures: Path
    lists: Path | None  # ImageSets/Main, or None: every XML file counts


class _Entry(NamedTuple):
    """One image of a split: as the list calls it, and its annotation file, relative; None: there is none."""

    name: str
    xml: str | None


def recognise(root: Path) -> bool:
    """Whether the folder is in one of the layouts."""
    return bool(_find_parts(root, pictures_needed=True))


def has_annotations(root: Path) -> bool:
    """Whether the folder is in one of the layouts but for its pictures, which are elsewhere."""
    return bool(_find_parts(root, pictures_needed=False))


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
    entries = 0
    for split in split_names or ("",):
        chosen = _entries(parts, split)
        if chosen is None:
            raise UserError(f"{root} has no split {split!r}; it has {', '.join(splits(root)) or 'none'}")
        for part, names in chosen:
            folder = images or part.pictures
            finder = finders.setdefault(folder, PictureFinder(folder))
            prefix = f"{part.name}/" if part.name and part.lists is None and not split else ""
            _read_part(builder, part, names, finder, parsed, prefix)
            entries += len(names)
    if entries and not len(builder):
        _refuse_empty(builder, root, entries, finders)
    if not split_names and images is None:
        for image in unread_images(root, [part.annotations for part in parts] + list(finders)):
            builder.fault("missing-annotation", image, UNREAD)
    classes = Classes.of_names(sorted(str(key) for key in builder.class_keys()))
    if wanted is None or not set(wanted) & set(classes.names):  # a split may show none of the wanted classes
        classes = _classes(root, parts, builder, parsed)
    return builder.build(classes.chosen(wanted, str(root)))


def _refuse_empty(builder: Builder, root: Path, entries: int, finders: Iterable[Path]) -> None:
    """UserError where a whole folder seems to be elsewhere: not one annotation, or not one picture is found."""
    counts = count_faults(builder.faults)
    if counts.get("missing-annotation", 0) + counts.get("bad-annotation", 0) >= entries:
        raise UserError(
            f"{root}: none of {entries} annotations can be read ({builder.faults[0].message}); "
            "use `detector detect` for images without annotations"
        )
    if counts.get("missing-image", 0) >= entries:
        places = ", ".join(map(str, finders))
        raise UserError(f"{root}: none of {entries} annotated images is in {places}; name their folder with --images")


# --- layout -----------------------------------------------------------------------------------------------------------


def _parts(root: Path) -> tuple[_Part, ...]:
    return _find_parts(root, pictures_needed=True) or _find_parts(root, pictures_needed=False)


def _find_parts(root: Path, *, pictures_needed: bool) -> tuple[_Part, ...]:
    if (root / "VOCdevkit").is_dir() and not (root / "Annotations").is_dir():
        root = root / "VOCdevkit"
    kit = _kit(root, "")
    if kit:
        return (kit,)
    folders = [root / name for name in list_entries(root).folders]
    years = tuple(part for folder in folders if (part := _kit(folder, folder.name)))
    if years:
        return years
    bare = _bare(root, "", pictures_needed)
    if bare:
        return (bare,)
    return tuple(part for folder in folders if (part := _bare(folder, folder.name, pictures_needed)))


def _are_splits(parts: Sequence[_Part]) -> bool:
    """Whether folders without lists are splits by their names."""
    return all(_SPLIT_FOLDERS.fullmatch(part.name) for part in parts)


def _kit(folder: Path, name: str) -> _Part | None:
    lists = folder / "ImageSets" / "Main"
    if not (folder / "Annotations").is_dir() or not any(n.endswith(".txt") for n in list_names(lists)):
        return None
    return _Part(name, folder / "Annotations", folder / "JPEGImages", lists)


def _bare(folder: Path, name: str, pictures_needed: bool) -> _Part | None:
    for xml_folder in (folder, *(folder / n for n in ANNOTATION_FOLDERS)):
        found = _xml_names(xml_folder)
        if not found:
            continue
        for pictures in (xml_folder, *(folder / n for n in _PICTURE_FOLDERS)):
            if PictureFinder(pictures).all():
                return _Part(name, xml_folder, pictures, None)
        if not pictures_needed and any(_is_annotation(xml_folder / n) for n in found[:_PROBE]):
            return _Part(name, xml_folder, xml_folder, None)
    return None


def _xml_names(folder: Path) -> list[str]:
    return [name for name in list_names(folder) if name.lower().endswith(".xml")]


def _is_annotation(xml: Path) -> bool:
    try:
        return b"<annotation" in read_bytes(xml)
    except UserError:
        return False


def _entries(parts: Sequence[_Part], split: str) -> list[tuple[_Part, list[_Entry]]] | None:
    """Parts and entries of ``split``; None if there is no such split."""
    if parts[0].lists is None or not split:
        chosen = [part for part in parts if not split or part.name == split]
        return [(part, [_Entry(n[:-4], n) for n in _xml_names(part.annotations)]) for part in chosen] or None
    year, slash, list_name = split.rpartition("/")
    found = []
    for part in parts:
        path = (part.lists or part.annotations) / f"{list_name}.txt"
        if (not slash or part.name in (year, f"VOC{year}")) and path.is_file():
            found.append((part, _listed(path, part)))
    return found or None


def _listed(path: Path, part: _Part) -> list[_Entry]:
    """The entries of a list, without those that it marks by -1: a class's list marks pictures without the class so."""
    xmls = PictureFinder(part.annotations)
    _, underscore, split = path.stem.rpartition("_")
    of_a_class = bool(underscore) and (path.parent / f"{split}.txt").is_file()
    entries = []
    for line in read_lines(path):
        entry = _Entry(_unquoted(line), _xml_of(xmls, _unquoted(line)))
        flagged = _FLAGGED.fullmatch(line)
        if flagged and (of_a_class or entry.xml is None):
            without = _Entry(_unquoted(flagged[1]), _xml_of(xmls, _unquoted(flagged[1])))
            if entry.xml is None or without.xml is not None:  # else the picture itself is called "cat 1"
                if flagged[2] == "-1":
                    continue
                entry = without
        entries.append(entry)
    return entries


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'" else text


def _xml_of(xmls: PictureFinder, name: str) -> str | None:
    """The annotation file of a list's entry: a stem, or the name of a picture or of an annotation file."""
    inside = relative_name(name, xmls.folder)
    for text in [*([inside] if inside else []), *tails(name)]:
        for stem in (text, stem_of(text), text[:-4] if text.lower().endswith(".xml") else text):
            found = xmls.by_name(f"{stem}.xml")
            if len(found) == 1:
                return found[0]
        doubled = [found[0] for suffix in sorted(SUFFIXES) if (found := xmls.by_name(f"{text}{suffix}.xml"))]
        if len(doubled) == 1:
            return doubled[0]
    return None


# --- reading ----------------------------------------------------------------------------------------------------------


def _read_part(
    builder: Builder,
    part: _Part,
    entries: Sequence[_Entry],
    finder: PictureFinder,
    parsed: dict[Path, Annotation | None],
    id_prefix: str,
) -> None:
    prefix = relative_prefix(builder.root, finder.folder)
    # Folders number their images anew; the same name in a kit's list is the same image.
    before = builder.image_ids() if part.lists is None else frozenset()
    used: dict[str, str] = {}
    for name, xml_name in entries:
        if xml_name is None:
            if relative_name(name, finder.folder) is None:
                place = part.lists or part.annotations
                builder.fault("escaping-path", place, f"{name!r} leads out of the data folder")
            else:
                builder.fault("missing-annotation", part.annotations, f"there is no annotation {name}.xml")
            continue
        xml, stem = part.annotations / xml_name, xml_name[:-4]
        annotation = parsed[xml] = parse_file(xml, builder)
        match = locate_annotated(finder, stem, annotation.filename if annotation else "")
        if annotation is None:
            if match.picture:
                used.setdefault(match.picture, xml_name)
            continue
        if match.picture in used:
            text = f"{match.picture} has the annotation {used[match.picture]} before; only the first is used"
            builder.fault("duplicate-image", xml, text)
            continue
        if match.kind:
            builder.fault(match.kind, xml, match.message)
        if not match.picture:
            continue
        used[match.picture] = xml_name
        if part.lists is None:
            annotation = _compared(builder, prefix + match.picture, annotation)
        if annotation is not None:
            image_id = f"{part.name}/{stem}" if stem in before else id_prefix + stem
            add_annotation(builder, image_id, prefix + match.picture, xml, annotation)
    if part.lists is None:
        for picture in finder.all():
            if picture not in used:
                builder.fault("missing-annotation", finder.folder / picture, "the image has no XML file of its own")


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
        text = "the annotation is of the image as it is stored; its boxes were turned with it (EXIF orientation)"
        builder.fault("turned-boxes", path, text)
        turned = tuple(turn(item, found, orientation) for item in annotation.objects)
        return annotation._replace(size=found, objects=turned)
    builder.fault("size-mismatch", path, size_mismatch_text(str(path), found, annotation.size))
    return None


def _classes(root: Path, parts: Sequence[_Part], builder: Builder, parsed: dict[Path, Annotation | None]) -> Classes:
    """The classes of the whole set, not of the split, so that labels mean the same in each."""
    if (root / "classes.txt").is_file():
        return Classes.of_names(list(dict.fromkeys(map(class_name, read_lines(root / "classes.txt")))))
    listed = sorted(set(_listed_classes(parts)))
    keys = {str(key) for key in builder.class_keys()}
    if listed and keys <= set(listed):
        return Classes.of_names(listed)
    # Listed classes keep their labels, whatever a split has besides.
    silent = Builder("", "voc", root, "")  # faults of other splits are reported when those are read
    for part in parts:
        for name in _xml_names(part.annotations):
            xml = part.annotations / name
            annotation = parsed[xml] if xml in parsed else parse_file(xml, silent)
            if annotation is not None:
                keys |= {str(item.key) for item in annotation.objects}
    known = listed if keys & set(listed) else []  # lists may have other names than those of classes
    return Classes.of_names([*known, *sorted(keys - set(known))])


def _listed_classes(parts: Sequence[_Part]) -> Iterator[str]:
    for part in parts:
        if part.lists is not None:
            names = {name[:-4] for name in list_names(part.lists) if name.endswith(".txt")}
            for name in names:
                listed, underscore, split = name.rpartition("_")
                if underscore and split in names:
                    yield listed
