"""Other COCO evaluators behind the same arrays: the reference, and faster ones that a user may have installed.

Each is fed the prepared tables: image and category ids count from 1, and so do annotation ids, because pycocotools
takes a match with annotation 0 for no match at all (and would score perfect boxes 0).
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.prepare import Prepared
from proposals.errors import UserError

# name -> (module that must be there, how to get it)
OTHER_ENGINES = {
    "pycocotools": ("pycocotools", "pip install pycocotools"),
    "hotcoco": ("hotcoco", "pip install 'googlenet-detector[hotcoco]'"),
}
ENGINES = ("builtin", *OTHER_ENGINES)


@dataclass(frozen=True, slots=True, eq=False)
class CocoArrays:
    """What every engine computes.

    Attributes:
        precision: ``(T, R, K, A, D)`` float64 by IoU threshold, recall level, class, area range and limit on
            detections; -1 where no truth counts.
        recall: ``(T, K, A, D)`` float64; -1 likewise.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def installed_engines() -> tuple[str, ...]:
    """The engines that can run here."""
    return ("builtin", *(name for name, (module, _) in OTHER_ENGINES.items() if find_spec(module) is not None))


def run_engine(
    engine: str,
    ready: Prepared,
    iou_thresholds: NDArray[np.float64],
    area_ranges: NDArray[np.float64],
    max_detections: NDArray[np.int64],
) -> CocoArrays:
    """Evaluate with one of ``OTHER_ENGINES``.

    Raises:
        UserError: the engine is unknown or not installed.
    """
    if engine not in OTHER_ENGINES:
        raise UserError(f"COCO engine {engine!r} is unknown; choose one of {', '.join(ENGINES)}")
    module, remedy = OTHER_ENGINES[engine]
    if find_spec(module) is None:
        raise UserError(f"COCO engine {engine!r} is not installed; {remedy}, or use --engine builtin")
    shape = (len(iou_thresholds), 101, len(ready.class_names), len(area_ranges), len(max_detections))
    if not len(ready.truth.image_ids) or not ready.class_names:
        return CocoArrays(np.full(shape, -1.0), np.full((shape[0], *shape[2:]), -1.0))
    with contextlib.redirect_stdout(io.StringIO()):
        truth, evaluator = _CLASSES[engine]()
        coco_truth = truth(_truth_json(ready)) if engine != "pycocotools" else _loaded(truth, _truth_json(ready))
        found = _detections_json(ready)
        # None of them takes an empty list everywhere; an object without annotations does the same.
        coco_found = coco_truth.loadRes(found) if found else _no_detections(truth, engine, ready)
        run = evaluator(coco_truth, coco_found, iouType="bbox")
        run.params.areaRng = area_ranges.tolist()
        run.params.areaRngLbl = ["all", "small", "medium", "large"]
        run.params.iouThrs = iou_thresholds
        run.params.maxDets = max_detections.tolist()
        run.evaluate()
        run.accumulate()
    precision = np.asarray(run.eval["precision"], np.float64).reshape(shape)
    recall = np.asarray(run.eval["recall"], np.float64).reshape(shape[0], *shape[2:])
    return CocoArrays(precision, recall)


def _loaded(kind: Any, dataset: dict[str, Any]) -> Any:
    coco = kind()
    coco.dataset = dataset
    coco.createIndex()
    return coco


def _no_detections(kind: Any, engine: str, ready: Prepared) -> Any:
    dataset = {**_truth_json(ready), "annotations": []}
    return _loaded(kind, dataset) if engine == "pycocotools" else kind(dataset)


def _pycocotools() -> tuple[Any, Any]:
    coco, evaluator = importlib.import_module("pycocotools.coco"), importlib.import_module("pycocotools.cocoeval")
    return coco.COCO, evaluator.COCOeval


def _hotcoco() -> tuple[Any, Any]:
    module = importlib.import_module("hotcoco")
    return module.COCO, module.COCOeval


_CLASSES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "pycocotools": _pycocotools,
    "hotcoco": _hotcoco,
}


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
