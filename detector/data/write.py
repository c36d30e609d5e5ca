"""Writing a data set as PASCAL VOC or COCO, so that other tools read it; the readers here read it back unchanged.

VOC has no place for ``crowd`` and ``area``; COCO as written here keeps every column.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

from detector.data.dataset import Dataset
from detector.path_part import path_part
from detector.types import ImageRecord
from proposals.errors import UserError

# XML 1.0 has no form for these, not even an escaped one.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_voc(dataset: Dataset, folder: str | Path, *, copy_images: bool = True) -> None:
    """Write a year of the VOC kit: ``Annotations``, ``JPEGImages`` and ``ImageSets/Main/<split>.txt``.

    Args:
        folder: made here; it must not exist, or be empty. copy_images: also copy the pictures, as they are.

    An image's files bear its id where that is the name of a file (see :func:`detector.path_part.path_part`).

    Raises:
        UserError: the folder holds something, a picture cannot be copied, or a class name is empty, of several lines, or holds what
            XML cannot.
    """
    root = Path(folder)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root} is there already; choose a folder that does not exist")
    for name in dataset.class_names:
        if len(name.splitlines()) != 1 or _NOT_IN_XML.search(name):
            raise UserError(f"{root}: VOC's files cannot hold the class name {name!r}; rename the class")
    lists, annotations, images = root / "ImageSets" / "Main", root / "Annotations", root / "JPEGImages"
    for made in (lists, annotations, *([images] if copy_images else [])):
        made.mkdir(parents=True)
    names = [path_part(image_id) for image_id in dataset.image_ids]
    for name, record in zip(names, dataset, strict=True):
        suffix = record.path.suffix if path_part(record.path.name) == record.path.name else ""
        picture = f"{name}{suffix}" if copy_images else record.path.name
        (annotations / f"{name}.xml").write_bytes(voc_xml(record, dataset.class_names, picture))
        if copy_images:
            try:
                shutil.copyfile(record.path, images / picture)
            except OSError as error:
                raise UserError(f"{record.path} cannot be copied: {error.strerror or error}") from None
    text = "".join(f"{name}\n" for name in names)
    (lists / f"{path_part(dataset.split or 'all')}.txt").write_text(text, encoding="utf-8")
    # The order of the labels, which the XML does not hold.
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in dataset.class_names), encoding="utf-8")


def voc_xml(record: ImageRecord, class_names: tuple[str, ...], picture: str | None = None) -> bytes:
    """The annotation file of one image; coordinates count from 1 and include the last pixel.

    Args:
        picture: the name of its picture's file; by default that of ``record``.
    """
    root = ElementTree.Element("annotation")
    _child(root, "filename", record.path.name if picture is None else picture)
    size = ElementTree.SubElement(root, "size")
    for name, value in zip(("width", "height", "depth"), (*record.image_size[::-1], 3), strict=True):
        _child(size, name, str(value))
    truth = record.ground_truth
    for box, label, ignore in zip(truth.boxes.tolist(), truth.labels.tolist(), truth.ignore.tolist(), strict=True):
        item = ElementTree.SubElement(root, "object")
        _child(item, "name", class_names[label])
        _child(item, "difficult", str(int(ignore)))
        corners = ElementTree.SubElement(item, "bndbox")
        x1, y1, x2, y2 = box
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), (x1 + 1, y1 + 1, x2, y2), strict=True):
            # Whole numbers as the devkit writes them; others with every digit, so that they come back.
            _child(corners, name, str(int(value)) if value == int(value) else repr(value))
    ElementTree.indent(root, "\t")
    xml: bytes = ElementTree.tostring(root, encoding="utf-8")
    return xml


def _child(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = _NOT_IN_XML.sub("\ufffd", text)


def write_coco(dataset: Dataset, file: str | Path) -> None:
    """Write one COCO JSON file; ``file_name`` is relative to ``dataset.root``, the picture folder to give when reading.

    Ids of images and categories are kept where all of them are whole numbers, otherwise they count from 1.

    Raises:
        UserError: the file exists, or cannot be written.
    """
    path = Path(file)
    content = coco_content(dataset)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            json.dump(content, stream)
    except FileExistsError:
        raise UserError(f"{path} is there already; choose another name") from None
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None


def coco_content(dataset: Dataset) -> dict[str, list[dict[str, object]]]:
    """What :func:`write_coco` writes, also what ``pycocotools`` takes as its ground truth."""
    ids = list(dataset.image_ids)
    numbers = all(len(i) < 19 and i.isdecimal() and str(int(i)) == i for i in ids)
    image_ids = [int(i) for i in ids] if numbers else range(1, len(ids) + 1)
    keys = dataset.class_keys
    category_ids = [k if isinstance(k, int) else 0 for k in keys]
    if len(set(category_ids)) != len(keys) or not all(isinstance(key, int) for key in keys):
        category_ids = list(range(1, len(keys) + 1))
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for i, image_id in enumerate(image_ids):
        height, width = dataset.image_size(i)
        images.append({"id": image_id, "file_name": dataset.paths[i], "height": height, "width": width})
        truth = dataset.ground_truth(i)
        columns = (truth.boxes, truth.labels, truth.ignore, truth.crowd, truth.area)
        for (x1, y1, x2, y2), label, ignore, crowd, area in zip(*(c.tolist() for c in columns), strict=True):
            entry: dict[str, object] = {
                "id": len(annotations) + 1,  # 0 would count as no match in pycocotools
                "image_id": image_id,
                "category_id": category_ids[label],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": area,
                "iscrowd": int(crowd),
            }
            annotations.append(entry | {"ignore": 1} if ignore else entry)
    categories: list[dict[str, object]] = [
        {"id": key, "name": name} for key, name in zip(category_ids, dataset.class_names, strict=True)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}
