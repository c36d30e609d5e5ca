"""A small evaluation whose names try to break out of the page, to write reports of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from boxes import found_of, truth_of
from PIL import Image

from detector.evaluation.analysis_types import ErrorExample, Evaluation, PictureBox, PictureInfo
from detector.evaluation.assemble import assemble
from detector.evaluation.voc import evaluate_voc

HOSTILE = "<script>alert(1)</script>"
HOSTILE_FILE = "<img src=x onerror=alert(2)>&\"'</script><!--"
CLASSES = ("cat", HOSTILE, "no truth", "=1+1")
KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
SPLIT = ("missed_by_proposals", "missed_by_classifier")
COST = {
    "classification": 0.031,
    "localisation": 0.052,
    "both": 0.004,
    "duplicate": 0.012,
    "background": 0.044,
    "missed": 0.1,
    "missed_by_proposals": 0.06,
    "missed_by_classifier": 0.04,
    "false_positive": 0.12,
    "false_negative": 0.11,
}


def made_up_evaluation(folder: Path, n_images: int = 6, proposals_known: bool = True) -> Evaluation:
    """Two detections and two objects per image, one error of each kind in turn; pictures of 64 x 48 in ``folder``.

    The last picture's file is missing, as after a data set has moved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    truth, detections, images = {}, {}, {}
    examples = []
    kinds = [k for k in KINDS if k != "missed"] + [("missed", "proposals"), ("missed", "classifier")]
    for i in range(n_images):
        image_id = f"{i:02d} {HOSTILE_FILE}" if i % 3 == 0 else f"image-{i:02d}"
        path = folder / f"{i}.png"
        if i < n_images - 1:
            Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(path)
        boxes = np.array([[4, 4, 24, 28], [34, 10, 60, 40]], np.float32)
        truth[image_id] = truth_of(boxes, [0, 1])
        found = boxes + np.float32(i % 4 * 3)
        # One detector's scores are no probabilities: a negative one among them must not get lost.
        scores = [-0.5, -0.6] if i == 8 else [0.9 / (1 + 0.1 * i), 0.8 / (1 + 0.1 * i)]
        detections[image_id] = found_of(found, scores, [0, [1, 3][i % 2]], (48, 64))
        kind = kinds[i % len(kinds)]
        missed = isinstance(kind, tuple)
        truth_box, box = tuple(boxes[0].tolist()), tuple(found[0].tolist())
        examples.append(
            ErrorExample(
                kind=kind[0] if missed else kind,
                missed_by=kind[1] if missed and proposals_known else None,
                image_id=image_id,
                class_name=CLASSES[i % 2],
                score=float("nan") if missed else float(scores[0]),
                box=None if missed else box,
                truth_box=truth_box,
                truth_class=HOSTILE if kind == "classification" else CLASSES[i % 2],
                iou=0.3,
            )
        )
        images[image_id] = PictureInfo(
            str(path),
            48,
            64,
            proposals=((4.0, 4.0, 20.0, 30.0, 0.7, 1.0), (30.0, 8.0, 64.0, 44.0, 0.2, 2.0)) if proposals_known else (),
            truths=tuple(PictureBox(tuple(b), CLASSES[j], float("nan")) for j, b in enumerate(boxes.tolist())),
            detections=(PictureBox(box, CLASSES[i % 2], float(scores[0]), "" if missed else kind),),
        )
    keys = (*KINDS, *(SPLIT if proposals_known else ()))
    assembled = assemble(evaluate_voc(detections, truth, CLASSES, year=2010, bootstrap_samples=50))
    errors = replace(
        assembled.errors,
        proposals_known=proposals_known,
        counts=dict.fromkeys(keys, 3),
        cost={key: COST[key] for key in (*keys, "false_positive", "false_negative")},
        classes=tuple(
            replace(
                row,
                counts=dict.fromkeys(keys, 1),
                cost={key: float("nan") if np.isnan(row.ap) else COST[key] * (row.label + 1) for key in keys},
            )
            for row in assembled.errors.classes
        ),
        examples=tuple(examples),
    )
    matrix = [[5, 1, 0, 0, 0], [2, 3, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 3, 0]]
    info = {"data": f"data {HOSTILE}", "model": "model & co", "created": "2026-03-14"}
    info["command"] = f"detector evaluate --data '{HOSTILE_FILE}'"
    confusion = replace(assembled.confusion, matrix=np.array(matrix))
    return replace(assembled, errors=errors, confusion=confusion, images=images, info=info)
