"""One XML file of PASCAL VOC, which ILSVRC and labelling tools write too: read, and written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from detector.data.builder import Builder, Object
from detector.data.classes import class_name
from detector.data.paths import read_bytes
from detector.images.read import read_image_size
from detector.types import ImageRecord
from proposals.errors import UserError

_NAN = float("nan")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
# XML 1.0 has no form for these, not even an escaped one.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Annotation(NamedTuple):
    """What one XML file says."""

    size: tuple[int, int] | None
    filename: str
    objects: tuple[Object, ...]
    faults: tuple[tuple[str, str], ...]
    """Kinds and messages of objects that are left out: without a name, or a box of a single pixel, which is a click."""


NOTHING = Annotation(None, "", (), ())


def parse_file(xml: Path, builder: Builder, first_pixel: int = 1) -> Annotation | None:
    """What an XML file says; a fault in ``builder`` and None if it is missing or no annotation."""
    try:
        if not xml.exists():
            builder.fault("missing-annotation", xml, "the annotation file does not exist")
            return None
        return parse_xml(read_bytes(xml), first_pixel)
    except UserError as error:
        builder.fault("bad-annotation", xml, str(error))
    except OSError as error:  # a name that is too long
        builder.fault("missing-annotation", xml, f"the annotation file cannot be read: {error.strerror or error}")
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        # LookupError: an encoding that Python does not know.
        builder.fault("bad-annotation", xml, f"not an annotation in VOC's XML: {' '.join(str(error).split())}")
    return None


def parse_xml(data: bytes, first_pixel: int = 1) -> Annotation:
    """What the XML says, boxes in 0-based half-open pixels; a coordinate that is missing or no number is NaN.

    Args:
        data: the file's bytes. first_pixel: what the source calls the first pixel, 1 in VOC, 0 in ILSVRC.

    Raises:
        ParseError, DefusedXmlException, ValueError: not an annotation, or XML with entities (never expanded).
    """
    root = fromstring(data)
    if root.tag != "annotation":
        raise ValueError(f"the outermost element is <{root.tag}>, not <annotation>")
    # Plain loops over children: the path expressions of ElementTree take as long as the parsing.
    size: tuple[int, int] | None = None
    filename = ""
    objects: list[Object] = []
    faults: list[tuple[str, str]] = []
    for element in root:
        if element.tag == "object":
            item = _object(element, first_pixel)
            corner = f"{item.x1 + first_pixel:g} {item.y1 + first_pixel:g}"
            if not item.key:
                faults.append(("bad-object", f"the object at {corner} has no name"))
            elif item.x2 - item.x1 == 1 and item.y2 - item.y1 == 1:
                message = f"box of the single pixel {corner} ({item.key}): a click, not a box"
                faults.append(("one-pixel-box", message))
            else:
                objects.append(item)
        elif element.tag == "size":
            sides = {child.tag: _number(child) for child in element}
            height, width = sides.get("height", _NAN), sides.get("width", _NAN)
            size = (int(height), int(width)) if height >= 1 and width >= 1 and height + width < 2**31 else None
        elif element.tag == "filename":
            filename = (element.text or "").strip()
    return Annotation(size, filename, tuple(objects), tuple(faults))


def _object(element: Element, first_pixel: int) -> Object:
    name, difficult = "", False
    corners = dict.fromkeys(_CORNERS, _NAN)
    for child in element:
        if child.tag == "name":
            name = class_name(child.text)
        elif child.tag == "difficult":
            difficult = _number(child) >= 1
        elif child.tag == "bndbox":
            corners |= {corner.tag: _number(corner) for corner in child}
    x1, y1, x2, y2 = (corners[corner] for corner in _CORNERS)
    end = 1 - first_pixel  # the last pixel belongs to the box
    return Object(name, x1 - first_pixel, y1 - first_pixel, x2 + end, y2 + end, difficult)


def _number(element: Element) -> float:
    try:
        return float(element.text or _NAN)
    except ValueError:
        return _NAN


def add_annotation(builder: Builder, image_id: str, picture: str, xml: Path, annotation: Annotation) -> None:
    """Add what an XML file says to ``builder``; where it gives no size, the picture's header does."""
    size = annotation.size
    if size is None:
        try:
            size = read_image_size(builder.root / picture)
        except UserError as error:
            builder.fault("unreadable-image", builder.root / picture, str(error))
            return
    for kind, message in annotation.faults:
        builder.fault(kind, xml, message)
    builder.add(image_id, picture, size, str(xml), annotation.objects)


def turn(item: Object, size: tuple[int, int], orientation: int) -> Object:
    """A box on a stored picture, as a box on the upright one of ``size``; ``orientation`` is EXIF's, 5 to 8."""
    height, width = size  # of the upright picture: the stored one is height wide and width high
    x1, y1, x2, y2 = item.y1, item.x1, item.y2, item.x2
    if orientation in (6, 7):
        x1, x2 = width - x2, width - x1
    if orientation in (7, 8):
        y1, y2 = height - y2, height - y1
    return item._replace(x1=x1, y1=y1, x2=x2, y2=y2)


def voc_xml(record: ImageRecord, class_names: Sequence[str]) -> bytes:
    """The annotation file of one image; coordinates count from 1 and include the last pixel.

    Args:
        record: its ``path`` has the name of the image's file. class_names: K words; what XML cannot hold of one becomes
            U+FFFD.
    """
    root = ElementTree.Element("annotation")
    _child(root, "filename", record.path.name)
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
        for name, value in zip(_CORNERS, (x1 + 1, y1 + 1, x2, y2), strict=True):
            # Whole numbers as the devkit writes them; others with every digit, so that they come back.
            _child(corners, name, str(int(value)) if value == int(value) else repr(value))
    ElementTree.indent(root, "\t")
    xml: bytes = ElementTree.tostring(root, encoding="utf-8")
    return xml


def _child(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = _NOT_IN_XML.sub("\ufffd", text)
