"""Files of data sets as people and tools leave them: pictures, and VOC's XML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

Content = str | bytes | tuple[int, int] | None


def put(root: Path, files: Mapping[str, Content]) -> Path:
    """Write files by their names in ``root``, which is returned: text, bytes, or a black picture (width, height).

    None removes a file that is there.
    """
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        elif isinstance(content, tuple):
            Image.new("RGB", content).save(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def voc_object(name: str, *corners: object, extra: str = "") -> str:
    """An object of an annotation; corners are xmin, ymin, xmax and ymax."""
    tags = "".join(f"<{t}>{c}</{t}>" for t, c in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{tags}</bndbox></object>"


def voc_annotation(*objects: str, size: tuple[int, int] | str = (40, 30), head: str = "") -> str:
    """An annotation of a picture of ``size`` (width, height), or with other text in the size's place."""
    if isinstance(size, tuple):
        size = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation>{head}{size}{''.join(objects)}</annotation>"
