"""Networks that are joined by what they find, not by what they say of a region."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms

from detector.detection.pipeline import Detector
from detector.detection.suppression import PostprocessConfig
from detector.types import Detections
from proposals.types import Proposals


class JoinedDetector:
    """The detections of several detectors, suppressed all together, class by class."""

    def __init__(self, detectors: Sequence[Detector | JoinedDetector], config: PostprocessConfig) -> None:
        self.detectors, self.config = detectors, config

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detections, Proposals]:
        """As :meth:`detector.detection.pipeline.Detector.detect`, with the proposals of the first detector."""
        found, proposals = zip(*(detector.detect(image) for detector in self.detectors), strict=True)
        columns = [(each.boxes, each.scores, each.labels) for each in found]
        boxes, scores, labels = (np.concatenate(parts) for parts in zip(*columns, strict=True))
        tensors = [torch.from_numpy(column) for column in (boxes, scores, labels)]
        kept = batched_nms(*tensors, self.config.nms_threshold)[: self.config.max_detections].numpy()
        return Detections(boxes[kept], scores[kept], labels[kept], found[0].image_size), proposals[0]
