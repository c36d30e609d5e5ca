"""The XML of PASCAL VOC for one image, which the reader here and labelling tools take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from detector.types import ImageRecord

# XML 1.0 has no form for these, not even an escaped one.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), (x1 + 1, y1 + 1, x2, y2), strict=True):
            # Whole numbers as the devkit writes them; others with every digit, so that they come back.
            _child(corners, name, str(int(value)) if value == int(value) else repr(value))
    ElementTree.indent(root, "\t")
    xml: bytes = ElementTree.tostring(root, encoding="utf-8")
    return xml


def _child(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = _NOT_IN_XML.sub("\ufffd", text)
