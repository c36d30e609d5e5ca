"""Which format is this folder in? One function for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from detector.data.dataset import Dataset
from detector.shown import one_line
from proposals.errors import UserError

# Modules, tried and imported in this order: the first are sure of themselves, the last take what is left.
_FORMATS: tuple[str, ...] = tuple(
    f"detector.data.{name}" for name in ("ilsvrc_det", "voc", "coco", "yolo", "image_folder")
)
_VOC, _COCO, _YOLO = _FORMATS[1:4]
_TRAINING_SPLITS = ("train", "trainval", "training")


def load_dataset(
    path: str | Path,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    *,
    images: str | Path | None = None,
) -> Dataset:
    """Read a data set; its format is recognised by what the folder holds.

    Args:
        path: a folder, a COCO JSON file or a YOLO ``data.yaml``.
        split: as :func:`dataset_splits` names them; several with ``+`` between (``train+val``), in VOC also
            ``2007/trainval+2012/trainval``. None: the training split, or everything where there are no splits.
        classes: names (or ids as in the source) in label order; objects of others are left out and counted. None: all
            classes of the whole set, so that labels mean the same in each split.
        images: the picture folder of VOC or COCO, if it is not where it is looked for: relative to the data folder,
            to the working directory, or absolute.

    Raises:
        UserError: nothing there, an unknown format (the message says what was looked for) or split, or broken lists.
            What is wrong with single pictures and boxes is no error: they are left out and listed in ``faults``.
    """
    with _told_in_a_line():
        root = Path(path)
        reader = _recognise(root)
        available: tuple[str, ...] = reader.splits(root)
        if split is None:
            names: tuple[str, ...] = (training_split(available),) if available else ()
        else:
            names = _parts(split)
            if not available and reader.__name__ != _COCO:
                raise UserError(f"{root} has no split {split!r}: the set has no splits; leave --split out")
        folder = _image_folder(root, Path(images)) if images is not None else None
        dataset: Dataset = reader.read(root, names, list(classes) if classes is not None else None, folder)
    return dataset


def dataset_splits(path: str | Path) -> tuple[str, ...]:
    """Names of the splits of the set at ``path``; empty if it has none."""
    with _told_in_a_line():
        root = Path(path)
        found: tuple[str, ...] = _recognise(root).splits(root)
    return found


def coco_files(path: str | Path, split: str | None = None) -> dict[str, Path]:
    """The COCO annotation files of ``split`` at ``path``, by the split's whole name (``""`` of a path to a file).

    The choice is that of :func:`load_dataset`, but None means all of them. Empty for a set of another format.

    Raises:
        UserError: as :func:`load_dataset`.
    """
    with _told_in_a_line():
        root = Path(path)
        coco = _recognise(root)
        if coco.__name__ != _COCO:
            return {}
        files: dict[str, Path] = coco.annotation_files(root)
        return {name: files[name] for name in coco.chosen_splits(root, files, () if split is None else _parts(split))}


def _parts(split: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in split.split("+")))
    if not all(names):
        raise UserError(f"split {split!r} has an empty part; write e.g. train+val")
    return names


@contextmanager
def _told_in_a_line() -> Iterator[None]:
    """What the system refuses (permissions, names that are too long, a disk that fails) as a line for the user.

    Messages that quote names from the data are brought to one line.
    """
    try:
        yield
    except UserError as error:
        if str(error).isprintable():
            raise
        raise type(error)(one_line(str(error))) from None
    except OSError as error:
        name = str(error.filename or "the data set")
        shown = one_line(name if len(name) < 300 else f"{name[:300]}...")
        raise UserError(f"{shown} cannot be read: {error.strerror or error}; check its name and permissions") from None


def training_split(available: Sequence[str]) -> str:
    """The split that is trained on when none is named: ``train`` before ``trainval``, also with a year (``train2017``).

    Raises:
        UserError: none of them is a training split.
    """
    for wanted in _TRAINING_SPLITS:
        matches = [name for name in available if name == wanted] or [
            n for n in available if n.rstrip("0123456789") == wanted
        ]
        if matches:
            return matches[0]
    if len(available) == 1:
        return available[0]
    raise UserError(f"which split? There are {', '.join(available)}; name one with --split")


def _recognise(root: Path) -> Any:
    """The module that reads ``root``."""
    if not root.exists():
        raise UserError(f"{root} does not exist; check the path of the data set")
    if root.is_dir() and not any(root.iterdir()):
        raise UserError(f"{root} is an empty folder; check the path of the data set")
    formats = (_COCO, _YOLO) if root.is_file() else _FORMATS
    for name in formats:
        reader = import_module(name)
        if reader.recognise(root):
            return reader
    if root.is_dir() and (voc := import_module(_VOC)).has_annotations(root):
        return voc
    looked_for = "; ".join(import_module(name).LOOKED_FOR for name in formats)
    raise UserError(f"{root} is no data set of a known format; looked for: {looked_for}")


def _image_folder(root: Path, images: Path) -> Path:
    base = root.parent if root.is_file() else root
    for folder in (images,) if images.is_absolute() else (base / images, images):
        if folder.is_dir():
            return folder
    raise UserError(f"image folder {images} does not exist, neither in {base} nor here; check --images")
