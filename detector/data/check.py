"""Reading a whole data set once, to find what would go wrong later.

Loading finds what the annotations show; here every picture is decoded too, and all splits are compared with each other.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.data.dataset import Dataset, size_mismatch_text
from detector.data.faults import KEPT, STOPS, Fault, count_faults
from detector.data.load import dataset_splits, load_dataset
from detector.data.paths import read_bytes
from detector.images.read import read_image
from proposals.errors import UserError

Progress = Callable[[int], AbstractContextManager[Callable[[], None]]]

_BATCH = 1024
"""Pictures that wait for a thread at a time; an interruption has to wait for them."""
PERCENTILES = (0, 10, 25, 50, 75, 90, 100)
_COCO_SMALL, _COCO_LARGE = 32.0, 96.0


@dataclass(frozen=True, slots=True)
class CheckedSplit:
    """One split: what could be loaded (None: nothing), and which of its pictures are good (indices)."""

    name: str
    dataset: Dataset | None
    good: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What the check found.

    Attributes:
        path: of the data set. format: its name. splits: in the order they were read. faults: all of them.
        pictures: number of different picture files that were decoded.
    """

    path: Path
    format: str
    splits: tuple[CheckedSplit, ...]
    faults: tuple[Fault, ...]
    pictures: int

    @property
    def stops_training(self) -> bool:
        """Whether a split cannot be used at all."""
        return any(fault.effect == STOPS for fault in self.faults)

    @property
    def left_out(self) -> int:
        """Number of pictures and boxes that are not used."""
        return sum(fault.effect != KEPT for fault in self.faults)

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "path": str(self.path),
            "format": self.format,
            "pictures_read": self.pictures,
            "stops_training": self.stops_training,
            "left_out": self.left_out,
            "fault_counts": count_faults(self.faults),
            "faults": [{**asdict(fault), "effect": fault.effect} for fault in self.faults],
            "splits": {
                split.name: {**statistics(split.dataset), "good_pictures": len(split.good)}
                for split in self.splits
                if split.dataset is not None
            },
        }


_Picture = tuple[bytes, tuple[int, int]] | str
"""What reading one picture file told: its digest and size, or why it cannot be read."""


def check_dataset(
    path: str | Path,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    *,
    images: str | Path | None = None,
    workers: int = 4,
    progress: Progress = lambda total: nullcontext(lambda: None),
) -> CheckReport:
    """Read annotations and pictures of a data set and report every fault.

    Args:
        path, classes, images: as for ``load_dataset``. split: one or several (``train+val``); None: all there are.
        workers: threads that decode pictures. progress: called with the number of pictures once it is known; what the
            block gives is called after each of them, in this thread.

    Raises:
        UserError: the path is no data set at all, or the arguments are wrong.
    """
    available = dataset_splits(path)
    names = split.split("+") if split is not None else available or (None,)
    faults: list[Fault] = []
    loaded: list[tuple[str, Dataset | None]] = []
    errors: list[UserError] = []
    for name in names:
        label = name or ""
        try:
            dataset = load_dataset(path, name, classes, images=images)
        except UserError as error:
            errors.append(error)
            loaded.append((label, None))
            faults.append(Fault("empty-split", str(path), f"split {label or 'of all images'}: {error}"))
            continue
        loaded.append((label, dataset))
        faults.extend(dataset.faults)
        if len(dataset) == 0 or len(dataset.boxes) == 0:
            what = "image" if len(dataset) == 0 else "box"
            faults.append(Fault("empty-split", str(path), f"split {label or 'of all images'} has no usable {what}"))
    if len(errors) == len(loaded):
        raise errors[0]

    datasets = [dataset for _, dataset in loaded if dataset is not None]
    files = list(dict.fromkeys(str(d.root / p) for d in datasets for p in d.paths))
    pictures = _read_all(files, workers, progress)
    splits = []
    for label, found in loaded:
        good = () if found is None else _check_split(found, pictures, faults)
        splits.append(CheckedSplit(label, found, good))
    _compare_pictures(splits, pictures, faults)
    _compare_classes(datasets[0], faults)
    unique = tuple(dict.fromkeys(faults))  # splits that overlap, such as train and trainval, share their faults
    return CheckReport(Path(path), datasets[0].format, tuple(splits), unique, len(pictures))


def _read_all(files: Sequence[str], workers: int, progress: Progress) -> dict[str, _Picture]:
    # Threads, not processes: Pillow decodes and hashlib hashes without holding the interpreter.
    pictures: dict[str, _Picture] = {}
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool, progress(len(files)) as advance:
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            for file, picture in zip(batch, pool.map(_read, batch), strict=True):
                pictures[file] = picture
                advance()
    return pictures


def _read(file: str) -> _Picture:
    try:
        data = read_bytes(Path(file))
        image = read_image(data, name=file)
    except UserError as error:
        return str(error)
    return hashlib.sha256(data).digest(), (image.shape[0], image.shape[1])


def _check_split(dataset: Dataset, pictures: dict[str, _Picture], faults: list[Fault]) -> tuple[int, ...]:
    """Note the faults of one split; the indices of its good pictures."""
    good = []
    for i, relative in enumerate(dataset.paths):
        file = str(dataset.root / relative)
        picture, size, truth = pictures[file], dataset.image_size(i), dataset.ground_truth(i)
        if isinstance(picture, str):
            faults.append(Fault("unreadable-image", file, picture))
        elif picture[1] != size:
            faults.append(Fault("size-mismatch", file, size_mismatch_text(file, picture[1], size)))
        else:
            good.append(i)
        for (label, *box), count in Counter(zip(truth.labels.tolist(), *truth.boxes.T.tolist(), strict=True)).items():
            if count > 1:
                text = f"box {' '.join(f'{value:g}' for value in box)} ({dataset.class_names[label]}) is there twice"
                faults.append(Fault("duplicate-box", file, text))
    return tuple(good)


def _compare_pictures(splits: Sequence[CheckedSplit], pictures: dict[str, _Picture], faults: list[Fault]) -> None:
    """Note pictures that are in one split twice, and those that are in two splits which should be apart."""
    places: dict[bytes, dict[tuple[str, str], None]] = {}
    for split in splits:
        if split.dataset is not None:
            for relative in split.dataset.paths:
                file = str(split.dataset.root / relative)
                picture = pictures[file]
                if not isinstance(picture, str):
                    places.setdefault(picture[0], {})[split.name, file] = None
    for found in places.values():
        first_split, first_file = next(iter(found))
        for split_name, file in list(found)[1:]:
            others = [s for s, f in found if _apart(s, split_name)]
            if others and split_name != first_split:
                text = f"the same image is in split {split_name} and in {others[0]} (as {first_file})"
                faults.append(Fault("shared-picture", file, text))
            elif file != first_file:
                faults.append(Fault("duplicate-picture", file, f"the same image as {first_file}"))


def _apart(a: str, b: str) -> bool:
    """Whether two splits should share no picture: neither is a part of the other by its name, as train of trainval."""
    return a not in b and b not in a


def _compare_classes(dataset: Dataset, faults: list[Fault]) -> None:
    seen: dict[str, str] = {}
    for name in dataset.class_names:
        plain = "".join(filter(str.isalnum, name.casefold()))
        if plain in seen and plain:
            faults.append(
                Fault("similar-classes", str(dataset.root), f"classes {seen[plain]!r} and {name!r}: the same?")
            )
        seen.setdefault(plain, name)


def sample(split: CheckedSplit, count: int) -> list[int]:
    """Indices of up to ``count`` good pictures, spread over the classes: first one of each class, then evenly."""
    dataset = split.dataset
    if dataset is None or not split.good:
        return []
    good = np.array(split.good)
    images = dataset.image_of_box()
    usable = np.isin(images, good)
    _, firsts = np.unique(dataset.labels[usable], return_index=True)
    chosen = list(dict.fromkeys(images[usable][firsts].tolist()))
    if len(chosen) > count:
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, count).astype(int)]
    spread = good[np.linspace(0, len(good) - 1, min(count, len(good))).astype(int)]
    return list(dict.fromkeys([*chosen, *spread.tolist()]))[:count]


def statistics(dataset: Dataset) -> dict[str, Any]:
    """Counts and percentiles, JSON-ready.

    ``classes`` is the number of boxes of each class by name, in label order; ``boxes`` has percentiles of width,
    height, the square root of the area, and aspect (width / height), in pixels, with COCO's three sizes; ``images``
    those of the pictures.
    """
    per_image = np.diff(dataset.offsets)
    sides = dataset.boxes[:, 2:].astype(np.float64) - dataset.boxes[:, :2]
    side = np.sqrt(sides.prod(axis=1))
    classes_of_image = np.unique(np.stack([dataset.image_of_box(), dataset.labels], axis=1), axis=0)
    images_of_class = np.bincount(classes_of_image[:, 1], minlength=dataset.num_classes)
    return {
        "images": {
            "count": len(dataset),
            "without_boxes": int((per_image == 0).sum()),
            "boxes_each": _percentiles(per_image),
            "height": _percentiles(dataset.sizes[:, 0]),
            "width": _percentiles(dataset.sizes[:, 1]),
        },
        "boxes": {
            "count": len(dataset.boxes),
            "ignored": int(dataset.ignore.sum()),
            "crowds": int(dataset.crowd.sum()),
            "width": _percentiles(sides[:, 0]),
            "height": _percentiles(sides[:, 1]),
            "side": _percentiles(side),
            "aspect": _percentiles(sides[:, 0] / sides[:, 1]),
            "small_medium_large": [
                int((side < _COCO_SMALL).sum()),
                int(((side >= _COCO_SMALL) & (side < _COCO_LARGE)).sum()),
                int((side >= _COCO_LARGE).sum()),
            ],
        },
        "classes": {
            name: {"boxes": boxes, "images": images}
            for name, boxes, images in zip(
                dataset.class_names, dataset.class_counts().tolist(), images_of_class.tolist(), strict=True
            )
        },
    }


def _percentiles(values: NDArray[Any]) -> dict[str, float]:
    """By ``p0`` (least) to ``p100`` (greatest), to a hundredth; empty if there are no values."""
    if len(values) == 0:
        return {}
    found = np.percentile(values.astype(np.float64), PERCENTILES)
    return {f"p{percent}": round(float(value), 2) for percent, value in zip(PERCENTILES, found, strict=True)}
