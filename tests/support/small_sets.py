"""Files of data sets as people and tools leave them, and a small set of each format that the readers know."""

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
        assert not Path(name).is_absolute(), name
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


XML = (
    "<annotation><filename>a.png</filename><size><width>20</width><height>10</height></size><object><name>cat</name>"
    "<difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>"
    "</annotation>"
)
COCO = (
    '{"images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}], "annotations": [{"id": 1, "image_id": 1,'
    ' "category_id": 3, "bbox": [1, 2, 5, 5], "area": 25, "iscrowd": 0, "segmentation": [[1, 2, 6, 2, 6, 7]]}, {"id":'
    ' 2, "image_id": 1, "category_id": 3, "segmentation": {"size": [10, 20], "counts": [31, 2, 167]}}], "categories":'
    ' [{"id": 3, "name": "cat"}]}'
)
FILES: dict[str, dict[str, str]] = {
    "voc": {"a.xml": XML},
    "kit": {
        "Annotations/a.xml": XML,
        "ImageSets/Main/train.txt": "a\n",
        "ImageSets/Main/cat_train.txt": "a  1\n",
        "classes.txt": "cat\n",
    },
    "coco": {"labels.json": COCO},
    "roboflow": {"train/_annotations.coco.json": COCO, "valid/_annotations.coco.json": COCO},
    "yolo": {
        "data.yaml": "path: .\ntrain: .\nval: list.txt\ntest: [none]\nkpt_shape: [1, 2]\nnames: {0: cat, 1: dog}\n",
        "list.txt": "a.png\n",
        "a.txt": "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1 0.1 0.1\n",
    },
    "bare": {"classes.txt": "cat\ndog\n", "a.txt": "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.3 0.1 0.3 0.4\n"},
    "cvat": {
        "obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
        "obj.names": "cat\ndog\n",
        "train.txt": "data/obj_train_data/a.png\n",
        "obj_train_data/a.txt": "0 0.5 0.5 0.2 0.2\n",
    },
    "ilsvrc": {
        "Annotations/DET/val/a.xml": XML,
        "ImageSets/DET/val.txt": "a 1\n",
        "devkit/data/b_det_validation_blacklist.txt": "1 n02672831\n",
        "devkit/data/map_det.txt": "n02672831 1 accordion\ncat 2 cat\n",
    },
    "folders": {},
}
PICTURES = {
    "kit": ("JPEGImages/a.png",),
    "roboflow": ("train/a.png", "valid/a.png"),
    "cvat": ("obj_train_data/a.png",),
    "ilsvrc": ("Data/DET/val/a.png",),
    "folders": ("cat/a.png", "dog/a.png"),
}


def make_small_set(root: Path, name: str) -> list[Path]:
    """Write the set called ``name`` into ``root``; its annotation files."""
    put(root, {**dict.fromkeys(PICTURES.get(name, ("a.png",)), (20, 10)), **FILES[name]})
    return [root / file for file in FILES[name]]
