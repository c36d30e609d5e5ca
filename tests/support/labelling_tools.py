"""What labelling tools write after a file of theirs was opened and saved as it is.

By the rules of LabelImg 1.8 (``pascal_voc_io``, ``yolo_io``, ``labelFile``) and of CVAT's exports.
"""

from __future__ import annotations

from xml.etree import ElementTree


def labelimg_voc(xml: bytes) -> bytes:
    """LabelImg cuts coordinates to whole numbers, none below 1."""
    given = ElementTree.fromstring(xml)
    root = ElementTree.Element("annotation")
    for name, text in (("folder", "set"), ("filename", given.findtext("filename")), ("path", "/elsewhere/a.png")):
        ElementTree.SubElement(root, name).text = text
    root.append(given.find("size"))  # type: ignore[arg-type]
    ElementTree.SubElement(root, "segmented").text = "0"
    for item in given.iter("object"):
        made = ElementTree.SubElement(root, "object")
        words = {"name": item.findtext("name"), "pose": "Unspecified", "truncated": "0", "difficult": "0"}
        for name, text in words.items():
            ElementTree.SubElement(made, name).text = text
        box = ElementTree.SubElement(made, "bndbox")
        for name in ("xmin", "ymin", "xmax", "ymax"):
            value = int(float(item.findtext(f"bndbox/{name}") or ""))
            ElementTree.SubElement(box, name).text = str(max(value, 1) if name.endswith("min") else value)
    return ElementTree.tostring(root, "utf-8")


def cvat_voc(xml: bytes) -> bytes:
    """CVAT takes coordinates as they are, and writes them with a decimal point."""
    root = ElementTree.fromstring(xml)
    for item in root.iter("object"):
        for corner in item.iter("bndbox"):
            for value in corner:
                value.text = str(float(value.text or ""))
        attributes = ElementTree.SubElement(ElementTree.SubElement(item, "attributes"), "attribute")
        ElementTree.SubElement(attributes, "name").text = "rotation"
        ElementTree.SubElement(attributes, "value").text = "0.0"
    return ElementTree.tostring(root, "utf-8")


def _shares(text: str) -> list[tuple[str, float, float, float, float]]:
    found = []
    for line in text.splitlines():
        label, x, y, w, h = line.split(" ")  # both tools refuse a sixth column
        found.append((label, float(x), float(y), float(w), float(h)))
    return found


def cvat_yolo(text: str, image_size: tuple[int, int]) -> str:
    """CVAT keeps pixels to two digits, and writes shares with six."""
    height, width = image_size
    lines = []
    for label, x, y, w, h in _shares(text):
        x1, x2 = (round(value * width, 2) for value in (x - w / 2, x + w / 2))
        y1, y2 = (round(value * height, 2) for value in (y - h / 2, y + h / 2))
        numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(f"{label} " + " ".join(f"{number:.6f}" for number in numbers))
    return "\n".join(lines) + "\n"


def labelimg_yolo(text: str, image_size: tuple[int, int]) -> str:
    """LabelImg cuts corners to whole pixels, none below 1, and writes shares with six digits."""
    height, width = image_size
    lines = []
    for label, x, y, w, h in _shares(text):
        x1, y1 = (max(1, int(max(v, 0) * side)) for v, side in ((x - w / 2, width), (y - h / 2, height)))
        x2, y2 = (int(min(v, 1) * side) for v, side in ((x + w / 2, width), (y + h / 2, height)))
        numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(f"{label} " + " ".join(f"{number:.6f}" for number in numbers))
    return "\n".join(lines) + "\n"
