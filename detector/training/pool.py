"""The pictures and objects that regions are drawn from, held in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detector.data import Dataset, read_record
from detector.types import ImageRecord
from proposals.boxes import clip, is_valid
from proposals.errors import UserError


@dataclass(frozen=True, slots=True, eq=False)
class ImagePool:
    """Decoded images with their objects in flat arrays.

    Attributes:
        images: each ``(H, W, 3)`` uint8 RGB. sizes: ``(M, 2)`` float32 (height, width).
        boxes: ``(N, 4)`` float32, all objects. labels: ``(N,)`` int64. owner: ``(N,)`` int64, the object's image.
        first: ``(M + 1,)`` int64; the objects of image i are ``first[i]:first[i + 1]``.
        skipped: one line for each image or object that could not be used.
    """

    images: list[NDArray[np.uint8]]
    sizes: NDArray[np.float32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    owner: NDArray[np.int64]
    first: NDArray[np.int64]
    skipped: list[str] = field(default_factory=list)

    @classmethod
    def load(
        cls,
        records: Dataset | Sequence[ImageRecord],
        *,
        workers: int = 2,
        progress: Callable[[int], None] | None = None,
    ) -> ImagePool:
        """Decode the pictures of ``records``.

        Unusable pictures (unreadable, or not of the annotation's size) and unusable boxes are skipped and counted.

        Ignored ("difficult") and crowd objects are left out of the objects.
        """

        def read(index: int) -> tuple[ImageRecord, NDArray[np.uint8]] | str:
            try:
                # The picture first: a data set then knows its size without opening the file again.
                image = records.read(index) if isinstance(records, Dataset) else read_record(records[index])
                return records[index], image
            except UserError as error:
                return str(error)

        images: list[NDArray[np.uint8]] = []
        boxes, labels, counts, skipped = [], [], [], []
        with ThreadPoolExecutor(workers) as pool:
            for found in pool.map(read, range(len(records))):
                if progress is not None:
                    progress(len(images))
                if isinstance(found, str):
                    skipped.append(found)
                    continue
                record, image = found
                truth = record.ground_truth
                inside = clip(truth.boxes, (image.shape[0], image.shape[1]))
                good = is_valid(inside) & ~truth.ignore & ~truth.crowd
                if not is_valid(inside).all():
                    skipped.append(f"{record.path}: {int((~is_valid(inside)).sum())} boxes without area in the image")
                images.append(image)
                boxes.append(inside[good].astype(np.float32))
                labels.append(truth.labels[good])
                counts.append(int(good.sum()))
        first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
        return cls(
            images=images,
            sizes=np.array([i.shape[:2] for i in images], np.float32).reshape(-1, 2),
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *boxes]),
            labels=np.concatenate([np.zeros(0, np.int64), *labels]),
            owner=np.repeat(np.arange(len(images), dtype=np.int64), counts),
            first=first,
            skipped=skipped,
        )

    @classmethod
    def join(cls, pools: Sequence[ImagePool]) -> ImagePool:
        """One pool of the pictures of several; the labels mean nothing then unless the pools share their classes."""
        offsets = np.cumsum([0, *(len(p.images) for p in pools)])
        return cls(
            images=[image for p in pools for image in p.images],
            sizes=np.concatenate([p.sizes for p in pools]),
            boxes=np.concatenate([p.boxes for p in pools]),
            labels=np.concatenate([p.labels for p in pools]),
            owner=np.concatenate([p.owner + o for p, o in zip(pools, offsets, strict=False)]),
            first=np.concatenate([[0], np.cumsum(np.concatenate([np.diff(p.first) for p in pools]))]).astype(np.int64),
            skipped=[line for p in pools for line in p.skipped],
        )

    def truth(self, image: int) -> NDArray[np.float32]:
        """Boxes ``(n, 4)`` of the objects of one image."""
        return self.boxes[self.first[image] : self.first[image + 1]]
