"""A small data set of each format that the readers know, for tests that damage them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

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
    for file in (*FILES[name], *PICTURES.get(name, ("a.png",))):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
    for file in PICTURES.get(name, ("a.png",)):
        Image.new("RGB", (20, 10)).save(root / file)
    for file, text in FILES[name].items():
        (root / file).write_text(text)
    return [root / file for file in FILES[name]]
