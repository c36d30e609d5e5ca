"""Which images have labels already."""

from __future__ import annotations

from pathlib import Path

from detector.data.voc import ANNOTATION_FOLDERS
from detector.data.yolo import label_folder


def is_labelled(image: Path) -> bool:
    """Whether a VOC or YOLO annotation of the image's name lies where such a data set has it.

    That is beside the image, in a folder of annotations there or one above, or in ``labels`` in place of ``images``.
    """
    near = (image.parent, image.parent.parent)
    homes = [image.parent, label_folder(image.parent), *(base / name for base in near for name in ANNOTATION_FOLDERS)]
    names = [f"{name}{suffix}" for name in (image.stem, image.name) for suffix in (".xml", ".txt")]
    return any((home / name).is_file() for home in homes for name in names)
