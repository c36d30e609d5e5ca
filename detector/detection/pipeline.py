"""The detector: propose regions, classify each of them, suppress duplicates (R-CNN; GoogLeNet paper, section 8)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from detector.detection.cores import Start, at_once
from detector.detection.ensemble import ImageView, RegionClassifier
from detector.detection.multibox_source import MultiBoxSource
from detector.detection.notebook import drawn
from detector.detection.rounds import in_rounds, run_together
from detector.detection.stages import Stages
from detector.detection.suppression import PostprocessConfig, RefinementConfig, postprocess
from detector.images.read import AnyImage, as_image
from detector.types import Detections
from proposals.merge import MergeConfig, merge
from proposals.types import Proposals, ProposalSource


class Begun(NamedTuple):
    """An image that is looked at, and what gives the proposals that its search finds; ``None`` without a search."""

    view: ImageView
    searched: Callable[[], Proposals] | None


@dataclass(eq=False, repr=False)
class Detector:
    """Finds objects of ``class_names`` in images.

    Args:
        proposals: where objects could be, by looking at the image alone (selective search); ``None`` leaves it to
            MultiBox, or to the caller. classifier: what is in a region.
        class_names: of the K classes. config: thresholds.
        multibox: where objects could be, by the classifier's own maps; ``None`` for none. merging: how the boxes of
            both become one list.
        max_proposals: only the best so many proposals of an image are classified; ``None`` for all of them.
        refinement: of a classifier with box regression; ``None`` leaves regions alone.
        labels: the classes that are looked for; ``None`` for all of them.
        class_keys: the classes' ids in the training data, K of them, or none.

    ``stages`` has the seconds spent so far in "propose", "networks" and "suppression".
    """

    proposals: ProposalSource | None
    classifier: RegionClassifier
    class_names: tuple[str, ...]
    config: PostprocessConfig
    max_proposals: int | None = None
    refinement: RefinementConfig | None = None
    labels: tuple[int, ...] | None = None
    class_keys: tuple[str, ...] = ()
    multibox: MultiBoxSource | None = None
    merging: MergeConfig = field(default_factory=MergeConfig)
    stages: Stages = field(default_factory=Stages, init=False)

    @overload
    def __call__(self, image: AnyImage) -> Detections: ...
    @overload
    def __call__(self, image: list[Any] | tuple[Any, ...]) -> list[Detections]: ...
    def __call__(self, image: AnyImage | list[Any] | tuple[Any, ...]) -> Detections | list[Detections]:
        """Objects in an image, or in each image of a list.

        Args:
            image: ``(H, W, 3)`` uint8 RGB, a PIL image, a path, the bytes of an image file, or an open binary file.

        Returns:
            Detections with ``class_names``, which Jupyter shows drawn in their image. They keep an image that was no
            path.

        Raises:
            UserError: a file that cannot be read. ValueError: no image.
        """
        return list(self.predict(image)) if isinstance(image, (list, tuple)) else next(self.predict([image]))

    def predict(self, images: Iterable[AnyImage], together: int = 1) -> Iterator[Detections]:
        """What :meth:`__call__` gives for each of ``images``, read and processed as they are asked for.

        ``together``: so many at a time, which the networks look at together, for a GPU. One that cannot be read then
        ends the others that were to be looked at with it.
        """
        if together < 1:
            raise ValueError(f"together {together}: at least one image at a time")
        sources = iter(images)
        while some := list(islice(sources, together)):
            begun = [self.begin(source) for source in some]
            for source, (view, _), (found, _) in zip(some, begun, self.finish(begun), strict=True):
                kept = Path(source) if isinstance(source, (str, os.PathLike)) else view.image
                yield replace(found, class_names=self.class_names, to_html=partial(drawn, kept))

    def detect(self, image: AnyImage) -> tuple[Detections, Proposals]:
        """Objects in ``image``, of any form that :meth:`__call__` takes, and the proposals that were classified."""
        return self.finish([self.begin(image)])[0]

    def begin(self, image: AnyImage, start: Start = at_once) -> Begun:
        """Begin to look at ``image``, of any form that :meth:`__call__` takes: ``start`` its search."""
        again = self.refinement
        view = ImageView(as_image(image), again is not None and again.rounds > 1 and again.mirror)
        return Begun(view, None if self.proposals is None else start(partial(self._search, self.proposals, view.image)))

    def finish(self, images: Sequence[Begun]) -> list[tuple[Detections, Proposals]]:
        """What :meth:`detect` gives for each of ``images``, which the networks look at together."""
        proposals = self._propose(images)
        return list(zip(self._classify([begun.view for begun in images], proposals), proposals, strict=True))

    def classify(self, view: ImageView, proposals: Proposals) -> Detections:
        """Objects among given ``proposals`` of an image."""
        return self._classify([view], [proposals])[0]

    @property
    def learned(self) -> MultiBoxSource | None:
        """MultiBox, if it proposes: a budget of 0 leaves it out where there is a search."""
        return None if self.proposals is not None and self.merging.budget.multibox == 0 else self.multibox

    def _propose(self, images: Sequence[Begun]) -> list[Proposals]:
        """The regions of each image that are to be classified, best first."""
        best = slice(self.max_proposals)
        if self.learned is None:
            return [_searched(begun).select(best) for begun in images]
        with self.stages.time("networks"):
            learned = self.learned.propose_each([begun.view for begun in images])
        if self.proposals is None:
            return [found.select(best) for found in learned]
        return [
            merge(_searched(begun).select(best), found, self.merging).select(best)
            for begun, found in zip(images, learned, strict=True)
        ]

    def _search(self, source: ProposalSource, image: NDArray[np.uint8]) -> Proposals:
        with self.stages.time("propose"):
            return source.propose(image)

    def _classify(self, views: Sequence[ImageView], proposals: Sequence[Proposals]) -> list[Detections]:
        power = self.config.overlap_power
        rounds = [
            in_rounds(view, found.boxes, found.image_size, self.refinement, power)
            for view, found in zip(views, proposals, strict=True)
        ]
        seen = run_together(rounds, self.classifier, self.stages)
        with self.stages.time("suppression"):
            return [
                postprocess(boxes, probs, found.image_size, self.config, self.labels)
                for (boxes, probs), found in zip(seen, proposals, strict=True)
            ]


def _searched(image: Begun) -> Proposals:
    if image.searched is None:
        raise ValueError("this detector has no source of proposals, and classifies given ones only")
    return image.searched()
