"""What pycocotools says of prepared tables: the reference of our COCO numbers.

Image and category ids count from 1, and so do annotation ids, because pycocotools takes a match with annotation 0 for
no match at all (and would score perfect boxes 0).
"""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.evaluation.coco import AREA_NAMES, AREA_RANGES, IOU_THRESHOLDS, MAX_DETECTIONS
from detector.evaluation.prepare import Prepared


def coco_of(dataset: dict[str, Any]) -> COCO:
    """A data set of pycocotools."""
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco


class CocoArrays(NamedTuple):
    """What COCO's numbers are means of: see ``_numbers`` of :mod:`detector.evaluation.coco`."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def run_reference(
    dataset: dict[str, Any], results: list[dict[str, Any]], limits: tuple[int, int, int] = MAX_DETECTIONS
) -> COCOeval:
    """pycocotools on an annotation file and a results file as they stand; there must be an image and a class."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_of(copy.deepcopy(dataset))
        # It takes no empty list; a data set without annotations does the same.
        found = truth.loadRes(copy.deepcopy(results)) if results else coco_of({**dataset, "annotations": []})
        run = COCOeval(truth, found, "bbox")
        run.params.areaRng = AREA_RANGES.tolist()
        run.params.areaRngLbl = list(AREA_NAMES)
        run.params.iouThrs = IOU_THRESHOLDS
        run.params.maxDets = list(limits)
        run.evaluate()
        run.accumulate()
        if limits == MAX_DETECTIONS:  # it sums up no others
            run.summarize()
    return run


def reference_arrays(ready: Prepared) -> CocoArrays:
    """pycocotools' arrays of prepared tables."""
    run = run_reference(_truth_json(ready), _detections_json(ready))
    return CocoArrays(run.eval["precision"], run.eval["recall"])


def _truth_json(ready: Prepared) -> dict[str, Any]:
    truth = ready.truth
    # "ignore" has no field that survives there, but an area below every range is ignored in each of them.
    areas = np.where(truth.ignore & ~truth.crowd, -1.0, truth.area)
    corners, sides = truth.boxes[:, :2].tolist(), truth.sides.tolist()
    annotations = [
        {"id": i, "image_id": image + 1, "category_id": label + 1, "bbox": [*corner, *side], "area": area}
        | {"iscrowd": int(crowd)}
        for i, (image, label, corner, side, area, crowd) in enumerate(
            zip(
                truth.image.tolist(),
                truth.labels.tolist(),
                corners,
                sides,
                areas.tolist(),
                truth.crowd.tolist(),
                strict=True,
            ),
            start=1,
        )
    ]
    images = [{"id": i, "file_name": "", "width": 1, "height": 1} for i in range(1, len(truth.image_ids) + 1)]
    categories = [{"id": i, "name": str(i)} for i in range(1, len(ready.class_names) + 1)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def _detections_json(ready: Prepared) -> list[dict[str, Any]]:
    found = ready.detections
    # Ties are broken by the order of the list; the rows' own order is the one that was given.
    order = np.argsort(ready.rows, kind="stable")
    return [
        {"image_id": image + 1, "category_id": label + 1, "bbox": [*corner, *side], "score": score}
        for image, label, corner, side, score in zip(
            found.image[order].tolist(),
            found.labels[order].tolist(),
            found.boxes[order, :2].tolist(),
            found.sides[order].tolist(),
            found.scores[order].tolist(),
            strict=True,
        )
    ]
