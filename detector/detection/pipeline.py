"""The detector: propose regions, classify each of them, suppress duplicates (R-CNN; GoogLeNet paper, section 8)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.detection.ensemble import ImageView, RegionClassifier
from detector.detection.stages import Stages
from detector.detection.suppression import PostprocessConfig, RefinementConfig, next_regions, postprocess, scored
from detector.types import Detections
from proposals.boxes import FloatArray
from proposals.types import Proposals, ProposalSource


class Detector:
    """Finds objects of ``class_names`` in images.

    Args:
        proposals: where objects could be. classifier: what is in a region.
        class_names: of the K classes. config: thresholds.
        max_proposals: only the best so many proposals of an image are classified; ``None`` for all of them.
        refinement: of a classifier with box regression; ``None`` leaves regions alone.
        labels: the classes that are looked for; ``None`` for all of them.
        class_keys: the classes' ids in the training data, K of them, or none.

    ``stages`` has the seconds spent so far in "propose", "networks" and "suppression".
    """

    def __init__(
        self,
        proposals: ProposalSource,
        classifier: RegionClassifier,
        class_names: tuple[str, ...],
        config: PostprocessConfig,
        max_proposals: int | None = None,
        refinement: RefinementConfig | None = None,
        labels: tuple[int, ...] | None = None,
        class_keys: tuple[str, ...] = (),
    ) -> None:
        self.proposals = proposals
        self.classifier = classifier
        self.class_names = class_names
        self.config = config
        self.max_proposals = max_proposals
        self.refinement = refinement
        self.labels = labels
        self.class_keys = class_keys
        self.stages = Stages()

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Objects in ``image`` ``(H, W, 3)`` uint8 RGB."""
        return self.detect(image)[0]

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detections, Proposals]:
        """Objects in ``image`` ``(H, W, 3)`` uint8 RGB, and the proposals that were classified."""
        _check(image)
        with self.stages.time("propose"):
            proposals = self.proposals.propose(image).select(slice(self.max_proposals))
        return self.classify(image, proposals), proposals

    def classify(self, image: NDArray[np.uint8], proposals: Proposals) -> Detections:
        """Objects among given ``proposals`` of ``image`` ``(H, W, 3)`` uint8 RGB."""
        size, looks = proposals.image_size, self.refinement
        view = ImageView(image)
        rounds = [self._predict(view, proposals.boxes)]
        if looks is not None:
            for _ in range(looks.rounds - 1):
                with self.stages.time("suppression"):
                    regions = next_regions(*rounds[-1], size, looks)
                rounds.append(self._predict(view, regions, mirror=looks.mirror))
            if not looks.every_round:
                rounds = rounds[-1:]
        boxes, probs = (np.concatenate(parts) for parts in zip(*rounds, strict=True))
        with self.stages.time("suppression"):
            return postprocess(boxes, probs, size, self.config, self.labels)

    def _predict(
        self, view: ImageView, regions: FloatArray, *, mirror: bool = False
    ) -> tuple[FloatArray, NDArray[np.float32]]:
        """Boxes ``(N, 4)``, or ``(N, K, 4)`` where regions are moved, and scores ``(N, K + 1)``."""
        with self.stages.time("networks"):
            found = self.classifier.predict(view, regions, mirror=mirror)
        boxes = regions if self.refinement is None else found.boxes
        if boxes is None:
            raise ValueError("refinement moves boxes, and this classifier has no box regression")
        return boxes, scored(found.probs, found.overlap, self.config.overlap_power)


def _check(image: NDArray[np.uint8]) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"an image must be a (H, W, 3) uint8 RGB array, not {found}; detector.read_image makes one")
