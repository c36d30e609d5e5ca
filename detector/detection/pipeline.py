"""The detector: propose regions, classify each of them, suppress duplicates (R-CNN; GoogLeNet paper, section 8)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from detector.detection.cores import Start, at_once
from detector.detection.ensemble import ImageView, Look, RegionClassifier, RegionPredictions
from detector.detection.multibox_source import MultiBoxSource
from detector.detection.notebook import drawn
from detector.detection.suppression import PostprocessConfig, RefinementConfig, next_regions, postprocess, scored
from detector.images.read import AnyImage, as_image
from detector.types import Detections
from proposals.boxes import FloatArray
from proposals.merge import MergeConfig, merge
from proposals.types import Proposals, ProposalSource

T = TypeVar("T")


class Stages:
    """Where the time goes: ``seconds`` spent so far by stage, in the order of first use; of all threads together.

    ``clock`` returns seconds since any moment.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}
        self._lock = Lock()

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to ``stage``."""
        begun = self.clock()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + self.clock() - begun


class Begun(NamedTuple):
    """An image that is looked at, and what gives the proposals that its search finds; ``None`` without a search."""

    view: ImageView
    searched: Callable[[], Proposals] | None


# Asks what networks say of regions, is told it, and returns boxes and scores.
_Asking = Generator[Look, RegionPredictions, tuple[FloatArray, NDArray[np.float32]]]


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

        ``together``: so many at a time, which the networks look at together; on a GPU, 16 are faster than 1.
        """
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
        looks = self.refinement
        view = ImageView(as_image(image), looks is not None and looks.rounds > 1 and looks.mirror)
        return Begun(view, None if self.proposals is None else start(partial(self._search, self.proposals, view.image)))

    def finish(self, images: Sequence[Begun]) -> list[tuple[Detections, Proposals]]:
        """What :meth:`detect` gives for each of ``images``, which the networks look at together."""
        proposals = self._propose(images)
        asking = [self._classify(view, found) for (view, _), found in zip(images, proposals, strict=True)]
        return list(zip(_answered(asking, self._look), proposals, strict=True))

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

    def classify(self, view: ImageView, proposals: Proposals) -> Detections:
        """Objects among given ``proposals`` of an image."""
        return _answered([self._classify(view, proposals)], self._look)[0]

    def _classify(self, view: ImageView, proposals: Proposals) -> Generator[Look, RegionPredictions, Detections]:
        size, looks = proposals.image_size, self.refinement
        rounds = [(yield from self._first_round(view, proposals.boxes))]
        if looks is not None:
            for _ in range(looks.rounds - 1):
                with self.stages.time("suppression"):
                    regions = next_regions(*rounds[-1], size, looks)
                rounds.append((yield from self._scored(Look(view, regions, looks.mirror))))
            if not looks.every_round:
                rounds = rounds[-1:]
        boxes, probs = (np.concatenate(parts) for parts in zip(*rounds, strict=True))
        with self.stages.time("suppression"):
            return postprocess(boxes, probs, size, self.config, self.labels)

    def _first_round(self, view: ImageView, regions: FloatArray) -> _Asking:
        """Boxes and scores; in a cascade the first members look at all regions, all of them at the best."""
        looks = self.refinement
        if looks is None or looks.first_members is None:
            return (yield from self._scored(Look(view, regions)))
        boxes, probs = yield from self._scored(Look(view, regions, members=looks.first_members))
        best = probs[:, :-1].max(axis=1, initial=0)
        chosen = np.argsort(-best, kind="stable")[: looks.max_regions]
        chosen = chosen[best[chosen] >= looks.score_threshold]
        boxes[chosen], probs[chosen] = yield from self._scored(Look(view, regions[chosen]))
        return boxes, probs

    def _scored(self, look: Look) -> _Asking:
        """Boxes ``(N, 4)``, or ``(N, K, 4)`` where regions are moved, and scores ``(N, K + 1)``."""
        found = yield look
        boxes = look.boxes if self.refinement is None else found.boxes
        if boxes is None:
            raise ValueError("refinement moves boxes, and this classifier has no box regression")
        return boxes, scored(found.probs, found.overlap, self.config.overlap_power)

    def _look(self, looks: Sequence[Look]) -> list[RegionPredictions]:
        with self.stages.time("networks"):
            return self.classifier.predict_each(looks)


def _searched(image: Begun) -> Proposals:
    if image.searched is None:
        raise ValueError("this detector has no source of proposals, and classifies given ones only")
    return image.searched()


def _answered(
    asking: Sequence[Generator[Look, RegionPredictions, T]],
    answer: Callable[[Sequence[Look]], Sequence[RegionPredictions]],
) -> list[T]:
    """What each of ``asking`` returns; they ask equally often, and what they ask at a time is answered together."""
    returned: list[T] = []
    looks = [next(each) for each in asking]
    while looks:
        answers, looks = answer(looks), []
        for each, said in zip(asking, answers, strict=True):
            try:
                looks.append(each.send(said))
            except StopIteration as end:
                returned.append(end.value)
    return returned
