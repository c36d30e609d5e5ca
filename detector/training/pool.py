"""The pictures and objects that regions are drawn from, held in memory as far as it goes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.data import Dataset, read_record
from detector.types import ImageRecord
from proposals.boxes import clip, is_valid
from proposals.errors import UserError


class Pictures:
    """Pictures in memory, or on disk and decoded whenever they are asked for.

    Asking raises UserError for one that cannot be read any more.
    """

    def __init__(self, entries: list[NDArray[np.uint8] | ImageRecord]) -> None:
        self.entries = entries
        self.in_memory = not any(isinstance(entry, ImageRecord) for entry in entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        entry = self.entries[index]
        return read_record(entry) if isinstance(entry, ImageRecord) else entry


def free_memory() -> int:
    """Bytes that programs can have without swapping, in a container with a limit what is left of that."""
    return min([_free_in_system(), *_free_in_groups()])


def _free_in_groups(root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """What the limits of this process's control group leave, of version 2 and 1; nothing where there is none."""
    for most, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        for folder in (root, root / "memory"):
            with contextlib.suppress(OSError, ValueError):  # "max" is no number, and no limit
                yield max(0, int((folder / most).read_text()) - int((folder / used).read_text()))


def _free_in_system() -> int:
    """The same of the whole machine; a gigabyte where it does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 1 << 30


@dataclass(frozen=True, slots=True, eq=False)
class ImagePool:
    """Decoded images with their objects in flat arrays.

    Attributes:
        images: each ``(H, W, 3)`` uint8 RGB; a list, or :class:`Pictures`, which reads some when they are asked for.
        sizes: ``(M, 2)`` float32 (height, width).
        boxes: ``(N, 4)`` float32, all objects. labels: ``(N,)`` int64. owner: ``(N,)`` int64, the object's image.
        first: ``(M + 1,)`` int64; the objects of image i are ``first[i]:first[i + 1]``.
        skipped: one line for each image or object that could not be used.
        ids: the images' names in the data set, M of them, or none.
        ignored: of each image ``(J, 4)`` float32, its ignored ("difficult") and crowd objects, or none.
    """

    images: Sequence[NDArray[np.uint8]] | Pictures
    sizes: NDArray[np.float32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    owner: NDArray[np.int64]
    first: NDArray[np.int64]
    skipped: list[str] = field(default_factory=list)
    ids: Sequence[str] = ()
    ignored: Sequence[NDArray[np.float32]] = ()

    @property
    def in_memory(self) -> bool:
        """Whether no picture has to be read again."""
        return not isinstance(self.images, Pictures) or self.images.in_memory

    def name(self, image: int) -> str:
        """What people call an image."""
        return self.ids[image] if self.ids else f"image {image}"

    def whole(self) -> ImagePool:
        """The same pictures, each one object that fills it: for learning to name whole pictures.

        Pictures with objects of several classes, or with none, have no object then.
        """
        labels = [set(self.labels[self.of_image(i)].tolist()) for i in range(len(self.images))]
        one = np.array([len(found) == 1 for found in labels], np.bool_)
        corner = self.sizes[one][:, ::-1]
        return replace(
            self,
            boxes=np.concatenate([np.zeros_like(corner), corner], axis=1).astype(np.float32),
            labels=np.array([min(found) for found in labels if len(found) == 1], np.int64),
            owner=np.flatnonzero(one),
            first=np.concatenate([[0], np.cumsum(one)]).astype(np.int64),
        )

    @classmethod
    def load(
        cls, records: Dataset | Sequence[ImageRecord], *, workers: int = 2, memory: int | None = None
    ) -> ImagePool:
        """Decode the pictures of ``records``.

        So many as ``memory`` bytes hold, by default half of what the machine has free; those that do not fit are read
        when they are needed.

        Unusable pictures (unreadable, or not of the annotation's size) and unusable boxes are skipped and counted.

        Ignored ("difficult") and crowd objects are no objects; they are in :attr:`ignored`.
        """
        limit = free_memory() // 2 if memory is None else memory
        taken, lock = 0, threading.Lock()

        def read(index: int) -> tuple[ImageRecord, NDArray[np.uint8] | None] | str:
            nonlocal taken
            try:
                if taken >= limit:
                    return records[index], None
                image = read_record(records[index])
                with lock:
                    taken += image.nbytes
                return records[index], image
            except UserError as error:
                return str(error)

        images: list[NDArray[np.uint8] | ImageRecord] = []
        boxes, labels, counts, skipped, sizes, ids, ignored = [], [], [], [], [], [], []
        with ThreadPoolExecutor(workers) as pool:
            for found in pool.map(read, range(len(records))):
                if isinstance(found, str):
                    skipped.append(found)
                    continue
                record, image = found
                truth = record.ground_truth
                inside = clip(truth.boxes, record.image_size)
                apart = truth.ignore | truth.crowd
                good = is_valid(inside) & ~apart
                if not is_valid(inside).all():
                    skipped.append(f"{record.path}: {int((~is_valid(inside)).sum())} boxes without area in the image")
                images.append(record if image is None else image)
                sizes.append(record.image_size)
                ids.append(record.image_id)
                boxes.append(inside[good].astype(np.float32))
                labels.append(truth.labels[good])
                counts.append(int(good.sum()))
                ignored.append(inside[is_valid(inside) & apart].astype(np.float32))
        first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
        return cls(
            images=Pictures(images),
            sizes=np.array(sizes, np.float32).reshape(-1, 2),
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *boxes]),
            labels=np.concatenate([np.zeros(0, np.int64), *labels]),
            owner=np.repeat(np.arange(len(images), dtype=np.int64), counts),
            first=first,
            skipped=skipped,
            ids=ids,
            ignored=ignored,
        )

    def of_image(self, image: int) -> slice:
        """Where the objects of one image stand."""
        return slice(int(self.first[image]), int(self.first[image + 1]))

    def truth(self, image: int) -> NDArray[np.float32]:
        """Boxes ``(n, 4)`` of the objects of one image."""
        return self.boxes[self.of_image(image)]

    def unsure(self, image: int) -> NDArray[np.float32]:
        """Boxes ``(J, 4)`` of what is neither object nor background in one image."""
        return self.ignored[image] if self.ignored else np.zeros((0, 4), np.float32)
