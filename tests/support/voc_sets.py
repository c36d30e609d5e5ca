"""VOC's layout, written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

Boxes = Iterable[tuple[str, tuple[int, int, int, int]]]


def voc_xml(name: str, size: tuple[int, int], objects: Boxes) -> str:
    """The annotation of the image ``name`` of ``size`` (height, width); ``x1 y1 x2 y2`` from 0, half-open."""
    rows = ""
    for label, (x1, y1, x2, y2) in objects:
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (x1 + 1, y1 + 1, x2, y2), strict=True)
        box = "".join(f"<{word}>{value}</{word}>" for word, value in corners)
        rows += f"<object><name>{label}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
    about = f"<filename>{name}</filename><size><width>{size[1]}</width><height>{size[0]}</height></size>"
    return f"<annotation>{about}{rows}</annotation>"


def write_voc(
    root: Path, size: tuple[int, int], objects: Mapping[str, Boxes], splits: Mapping[str, Iterable[str]]
) -> Path:
    """The annotations and lists of a set whose images are ``<name>.png``; these are not written."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, boxes in objects.items():
        (root / "Annotations" / f"{name}.xml").write_text(voc_xml(f"{name}.png", size, boxes))
    for split, names in splits.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return root
