"""The image reader and the data set readers with files made faulty by a seed; see ``reader_cases``."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from mutations import json_text, mutated_bytes, mutated_tree, mutated_words, value_or_error
from PIL import Image
from small_sets import make_small_set

from detector.data import Dataset, dataset_splits, load_dataset
from detector.images.read import read_image, read_image_size
from proposals.errors import UserError

Attempt: TypeAlias = Callable[[int], Any]
PICTURES = {
    "JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "RGBA", "P", "I;16", "1"), "WEBP": ("RGB", "RGBA"), "BMP": ("RGB",),
    "TIFF": ("RGB", "L", "I;16", "F"), "GIF": ("P",), "PPM": ("RGB", "L"), "AVIF": ("RGB",),
}  # fmt: skip


def pictures(format: str) -> Callable[[Path], Attempt]:
    """Noise and a gradient in one of the formats that are read, in each of its modes."""

    def begin(folder: Path) -> Attempt:
        noise = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
        noise[:12] = np.arange(31, dtype=np.uint8)[:, None] * 8
        files = []
        for mode in PICTURES[format]:
            file = io.BytesIO()
            grey = Image.fromarray(noise[..., 0].astype(np.uint16) * 257) if mode == "I;16" else None
            (grey or Image.fromarray(noise).convert(mode)).save(file, format)
            files.append(file.getvalue())
        path = folder / f"a.{format.lower()}"

        def attempt(seed: int) -> Any:
            path.write_bytes(mutated_bytes(files[seed % len(files)], seed))
            size = value_or_error(lambda: read_image_size(path), path)
            image = value_or_error(lambda: read_image(path), path)
            if not isinstance(image, str):
                assert image.dtype == np.uint8
                assert image.ndim == 3
                assert image.shape[2] == 3
                assert format == "GIF" or isinstance(size, str) or image.shape[:2] == size
            return image

        return attempt

    return begin


def outcomes(root: Path) -> Iterator[str]:
    """What reading each split came to; fails where it is neither a data set nor one line."""
    try:
        splits: tuple[str | None, ...] = (*dataset_splits(root), None)
    except UserError as error:
        assert_one_line(str(error))
        yield "error"
        return
    for split in splits:
        for classes in (None, ["cat", "0"]):
            try:
                dataset = load_dataset(root, split, classes)
            except UserError as error:
                assert_one_line(str(error))
                yield "error"
            else:
                assert_sound(dataset)
                yield "faults" if dataset.faults else "no faults"


def assert_one_line(message: str) -> None:
    assert message.isprintable()
    assert message


def assert_sound(dataset: Dataset) -> None:
    sides = dataset.boxes[:, 2:] - dataset.boxes[:, :2]
    assert np.isfinite(dataset.boxes).all()
    assert (sides > 0).all()
    assert np.isfinite(dataset.area).all()
    assert all(name and " ".join(name.split()) == name for name in dataset.class_names)
    assert len(set(dataset.class_keys)) == len(dataset.class_keys)
    assert len(set(dataset.image_ids)) == len(dataset)
    for record in dataset:
        assert record.path.resolve().is_relative_to(dataset.root.resolve())
        assert min(record.image_size) > 0
    for fault in dataset.faults:
        assert_one_line(str(fault))


def data_set(*names: str) -> Callable[[Path], Attempt]:
    """A small set in each of the layouts, one of its files damaged."""

    def begin(folder: Path) -> Attempt:
        files = [(folder / name, file) for name in names for file in make_small_set(folder / name, name)]

        def attempt(seed: int) -> Any:
            root, file = files[seed % len(files)]
            good = file.read_bytes()
            kind = seed // len(files) % 3
            if kind == 0 and file.suffix == ".json":
                file.write_text(json_text(mutated_tree(json.loads(good), seed)))
            else:
                file.write_bytes((mutated_bytes, mutated_words)[kind % 2](good, seed))
            try:
                found = set(outcomes(root))
            finally:
                file.write_bytes(good)
            return "error" if "error" in found else found

        return attempt

    return begin


PICTURE_READERS = {f"image {format}": pictures(format) for format in PICTURES}
DATA_READERS = {
    "data VOC": data_set("voc", "kit"),
    "data COCO": data_set("coco", "roboflow"),
    "data YOLO": data_set("yolo", "bare", "cvat"),
    "data ILSVRC DET": data_set("ilsvrc"),
}
