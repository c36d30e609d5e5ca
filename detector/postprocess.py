"""From region probabilities to detections: score cut, per-class non-maximum suppression, top-k."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torchvision.ops import batched_nms

from detector.types import Detections
from proposals.boxes import FloatArray, clip, is_valid


class PostprocessConfig(BaseModel):
    """How detections are chosen.

    Attributes:
        score_threshold: detections below this probability are dropped.
        nms_threshold: of two boxes of one class with a greater IoU the lower-scored is dropped (R-CNN: 0.3).
        max_detections: the best so many of an image are kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    score_threshold: float = Field(default=0.3, ge=0, le=1)
    nms_threshold: float = Field(default=0.3, ge=0, le=1)
    max_detections: int = Field(default=100, ge=1)


def postprocess(
    boxes: FloatArray, probs: NDArray[np.float32], image_size: tuple[int, int], config: PostprocessConfig
) -> Detections:
    """Detections from the class probabilities of regions.

    Args:
        boxes: ``(N, 4)`` regions in pixels. probs: ``(N, K + 1)``, background last. image_size: (height, width).

    A region may yield several detections, one for each class whose probability reaches the threshold.
    """
    boxes = clip(boxes, image_size).astype(np.float32)
    foreground = np.where(is_valid(boxes)[:, None], probs[:, :-1], -1.0)
    region, label = np.nonzero(foreground >= config.score_threshold)
    score = foreground[region, label].astype(np.float32)
    order = np.argsort(-score, kind="stable")
    region, label, score = region[order], label[order], score[order]
    # In float32 as the IoUs are: an IoU of exactly the threshold is not greater than it.
    threshold = float(np.float32(config.nms_threshold))
    kept = batched_nms(
        torch.from_numpy(boxes[region]), torch.from_numpy(score), torch.from_numpy(label), threshold
    ).numpy()
    # In the order of the sort above, so that equal scores stay as they came.
    kept = np.sort(kept)[: config.max_detections]
    return Detections(boxes[region[kept]], score[kept], label[kept].astype(np.int64), image_size)
