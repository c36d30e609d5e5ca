"""What a data set is made of, in numbers that go into a report."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.data.dataset import Dataset

PERCENTILES = (0, 10, 25, 50, 75, 90, 100)
_COCO_SMALL, _COCO_LARGE = 32.0, 96.0


def statistics(dataset: Dataset) -> dict[str, Any]:
    """Counts and percentiles, JSON-ready.

    ``classes`` is the number of boxes of each class by name, in label order; ``boxes`` has percentiles of width,
    height, the square root of the area, and aspect (width / height), in pixels, with COCO's three sizes; ``images``
    those of the pictures.
    """
    per_image = np.diff(dataset.offsets)
    sides = dataset.boxes[:, 2:].astype(np.float64) - dataset.boxes[:, :2]
    side = np.sqrt(sides.prod(axis=1))
    classes_of_image = np.unique(np.stack([dataset.image_of_box(), dataset.labels], axis=1), axis=0)
    images_of_class = np.bincount(classes_of_image[:, 1], minlength=dataset.num_classes)
    return {
        "images": {
            "count": len(dataset),
            "without_boxes": int((per_image == 0).sum()),
            "boxes_each": _percentiles(per_image),
            "height": _percentiles(dataset.sizes[:, 0]),
            "width": _percentiles(dataset.sizes[:, 1]),
        },
        "boxes": {
            "count": len(dataset.boxes),
            "ignored": int(dataset.ignore.sum()),
            "crowds": int(dataset.crowd.sum()),
            "width": _percentiles(sides[:, 0]),
            "height": _percentiles(sides[:, 1]),
            "side": _percentiles(side),
            "aspect": _percentiles(sides[:, 0] / sides[:, 1]),
            "small_medium_large": [
                int((side < _COCO_SMALL).sum()),
                int(((side >= _COCO_SMALL) & (side < _COCO_LARGE)).sum()),
                int((side >= _COCO_LARGE).sum()),
            ],
        },
        "classes": {
            name: {"boxes": boxes, "images": images}
            for name, boxes, images in zip(
                dataset.class_names, dataset.class_counts().tolist(), images_of_class.tolist(), strict=True
            )
        },
    }


def _percentiles(values: NDArray[Any]) -> dict[str, float]:
    """By ``p0`` (least) to ``p100`` (greatest), to a hundredth; empty if there are no values."""
    if len(values) == 0:
        return {}
    found = np.percentile(values.astype(np.float64), PERCENTILES)
    return {f"p{percent}": round(float(value), 2) for percent, value in zip(PERCENTILES, found, strict=True)}
