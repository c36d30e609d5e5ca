"""From region probabilities to detections: score cut, per-class non-maximum suppression (plain or soft), top-k."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from detector.types import Detections
from proposals.boxes import FloatArray, clip, iou, is_valid, nms
from proposals.calibration import Calibration, sigmoid

LEAST_OVERLAP = 0.02  # taken in place of a smaller one, so that regions keep the order of their probabilities there


class PostprocessConfig(BaseModel):
    """How detections are chosen.

    Attributes:
        score_threshold: detections below this probability are dropped.
        nms_threshold: of two boxes of one class with a greater IoU the lower-scored is dropped (R-CNN: 0.3).
        max_detections: the best so many of an image are kept.
        soft_sigma: soft suppression in place of plain, with this sigma; ``nms_threshold`` has no meaning then. See
            :func:`soft_nms`. ``None`` is R-CNN's, and the paper's.
        overlap_power: a score is the probability times the predicted overlap to this power, for models that predict how
            well a region lies on its object (IoU-Net, Jiang et al., ECCV 2018); 0 leaves it the probability.
        calibration: of the scores of what is left, so that 0.5 means that half of such detections are right;
            ``score_threshold`` is of calibrated scores. It keeps their order; the default leaves them alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    score_threshold: float = Field(default=0.3, ge=0, le=1)
    nms_threshold: float = Field(default=0.3, ge=0, le=1)
    max_detections: int = Field(default=100, ge=1)
    soft_sigma: float | None = Field(default=None, gt=0)
    overlap_power: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    calibration: Calibration = Calibration()


class RefinementConfig(BaseModel):
    """How regions are moved onto what they show, for models with box regression.

    Attributes:
        rounds: times that regions are classified and moved; 1 is R-CNN's. From the second on, the moved boxes of the
            round before are the regions.
        score_threshold: a region's class goes on to the next round from this score on, before calibration.
        nms_threshold: of two boxes with a greater IoU, of any class, only the higher-scored goes on.
        max_regions: the best so many go on.
        mirror: from the second round on each region is looked at twice, the second time in its mirror image.
        every_round: detections are chosen among the regions of all rounds, in place of the last one's alone.
        first_members: a cascade: in the first round only the first so many networks look at every region, and all of
            them at the best ``max_regions`` of those that reach ``score_threshold``. ``None``: all look at every one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(default=3, ge=1, le=10)
    score_threshold: float = Field(default=0.02, ge=0, le=1)
    nms_threshold: float = Field(default=0.8, ge=0, le=1)
    max_regions: int = Field(default=300, ge=1)
    mirror: bool = True
    every_round: bool = False
    first_members: int | None = Field(default=None, ge=1)


def scored(probs: NDArray[np.float32], overlap: NDArray[np.float32] | None, power: float) -> NDArray[np.float32]:
    """``probs`` ``(N, K + 1)`` with those of the K classes multiplied by ``overlap`` ``(N,)`` to ``power``.

    What the classes lose the background, which is last, gains: rows that summed to one still do.

    Raises:
        ValueError: there are no overlaps, and ``power`` is not 0.
    """
    if not power:
        return probs
    if overlap is None:
        raise ValueError("scores are to count overlaps, which this classifier does not predict")
    classes = probs[:, :-1] * (np.maximum(overlap, LEAST_OVERLAP) ** power)[:, None]
    lost = (probs[:, :-1] - classes).sum(axis=1, keepdims=True)
    return np.concatenate([classes, probs[:, -1:] + lost], axis=1).astype(np.float32)


def uncalibrated(score: float, calibration: Calibration) -> float:
    """The score in [0, 1] that ``calibration`` makes ``score``."""
    if calibration == Calibration() or score in (0, 1):
        return score
    logit = (np.log(score) - np.log1p(-score) - calibration.offset) / calibration.slope
    return float(sigmoid(logit))


def calibrated(scores: NDArray[np.float32], calibration: Calibration) -> NDArray[np.float32]:
    """``scores`` in [0, 1], of any shape, calibrated; 0 stays 0 and 1 stays 1."""
    if calibration == Calibration():
        return scores
    with np.errstate(divide="ignore"):
        return calibration(np.log(scores) - np.log1p(-scores))


def next_regions(
    boxes: FloatArray, probs: NDArray[np.float32], image_size: tuple[int, int], config: RefinementConfig
) -> NDArray[np.float32]:
    """The next round's regions ``(n, 4)``, best first, from ``boxes`` ``(N, K, 4)`` and ``probs`` ``(N, K + 1)``."""
    limits = PostprocessConfig(
        score_threshold=config.score_threshold, nms_threshold=config.nms_threshold, max_detections=config.max_regions
    )
    # One class for all of them: two classes that moved a region to the same place need be looked at there only once.
    moved = boxes.reshape(-1, 4)
    score = probs[:, :-1].reshape(-1, 1)
    return postprocess(moved, np.concatenate([score, 1 - score], axis=1), image_size, limits).boxes


def postprocess(
    boxes: FloatArray,
    probs: NDArray[np.float32],
    image_size: tuple[int, int],
    config: PostprocessConfig,
    labels: Sequence[int] | None = None,
) -> Detections:
    """Detections from the class probabilities of regions.

    Args:
        boxes: ``(N, 4)`` regions in pixels, or ``(N, K, 4)``, another one for each class.
        probs: ``(N, K + 1)``, background last. image_size: (height, width).
        labels: the classes that are looked for; ``None`` for all K. Those of one class never depend on another, but for
            ``max_detections``.

    A region may yield several detections, one for each class whose probability reaches the threshold.
    """
    each = boxes[:, None] if boxes.ndim == 2 else boxes  # (N, 1 or K, 4)
    inside = clip(each.reshape(-1, 4), image_size).astype(np.float32)
    good = is_valid(inside).reshape(each.shape[:2])
    foreground = np.where(good, probs[:, :-1], -1.0)
    if labels is not None:
        foreground[:, np.setdiff1d(np.arange(foreground.shape[1]), labels)] = -1.0
    least = uncalibrated(config.score_threshold, config.calibration)
    region, label = np.nonzero(foreground >= least)
    score = foreground[region, label].astype(np.float32)
    order = np.argsort(-score, kind="stable")
    region, label, score = region[order], label[order], score[order]
    found = inside.reshape(each.shape)[region, label if boxes.ndim == 3 else 0]
    if config.soft_sigma is not None:
        kept, score = soft_nms(found, score, label, config.soft_sigma, least, config.max_detections)
    else:
        # In float32 as the IoUs are: an IoU of exactly the threshold is not greater than it.
        threshold, count = np.float32(config.nms_threshold), config.max_detections
        own = [np.flatnonzero(label == each) for each in np.unique(label)]
        kept = np.concatenate([np.zeros(0, np.int64), *(i[nms(found[i], score[i], threshold, count)] for i in own)])
        # In the order of the sort above, so that equal scores stay as they came.
        kept = np.sort(kept)[: config.max_detections]
        score = score[kept]
    return Detections(found[kept], calibrated(score, config.calibration), label[kept].astype(np.int64), image_size)


def soft_nms(
    boxes: FloatArray, scores: FloatArray, labels: NDArray[np.int64], sigma: float, lowest: float, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Soft suppression (Bodla et al., Soft-NMS, ICCV 2017): neighbours lose score instead of being dropped.

    Where objects touch or overlap, plain suppression has to choose: a low threshold loses the object behind, a high one
    leaves duplicates with full score. Here what overlaps a better box by an IoU of o keeps exp(-o^2 / sigma) of its
    score.

    Args:
        boxes: ``(N, 4)`` in pixels. scores: ``(N,)``. labels: ``(N,)``; boxes of two classes do not touch each other.
        sigma: of the paper's Gaussian. lowest: a box whose score falls below is dropped. count: so many are left.

    Returns:
        Indices ``(n,)`` by falling new score, of equal ones the first; the new scores ``(n,)`` float32.
    """
    left: list[NDArray[np.int64]] = []
    new: list[NDArray[np.float64]] = []
    for label in np.unique(labels):
        index = np.flatnonzero(labels == label)
        own = boxes[index].astype(np.float64), scores[index].astype(np.float64)
        order, score = _one_class(*own, sigma, lowest, count)
        left.append(index[order])
        new.append(score)
    if not left:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    index, score = np.concatenate(left), np.concatenate(new)
    best = np.lexsort((index, -score))[:count]
    return index[best], score[best].astype(np.float32)


def _one_class(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], sigma: float, lowest: float, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The same for boxes of one class; ``scores`` are changed."""
    alive = np.arange(len(boxes))
    chosen: list[int] = []
    while len(chosen) < count:
        alive = alive[scores[alive] >= lowest]
        if not len(alive):
            break
        at = int(np.argmax(scores[alive]))
        best = int(alive[at])
        chosen.append(best)
        alive = np.delete(alive, at)
        scores[alive] *= np.exp(-(iou(boxes[best][None], boxes[alive])[0] ** 2) / sigma)
    order = np.array(chosen, np.int64)
    return order, scores[order]
