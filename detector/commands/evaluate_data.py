"""What ``evaluate`` and ``compare`` share: the data set to measure on, runs, and detections read from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from detector.commands.console import log
from detector.commands.detection_files import JSONL_FILE
from detector.data import Dataset, Fault, coco_files, dataset_splits, load_dataset
from detector.evaluation.analysis_types import PictureInfo
from detector.evaluation.assemble import proposal_rows
from detector.evaluation.columns import OnFault
from detector.evaluation.image_names import joined_by_file
from detector.evaluation.read_files import detection_files, read_detections, read_image_numbers, recognise_format
from detector.evaluation.read_truth import read_coco_truth, truth_of_dataset
from detector.evaluation.result import DEFAULT_METRIC, METRICS
from detector.evaluation.tables import DetectionTable, TruthTable
from detector.runs.folder import CONFIG_FILE
from detector.shown import shown
from detector.strict_yaml import parse, read_yaml
from proposals.errors import UserError
from proposals.types import Proposals

# Splits that one measures on, best first, when none is named.
EVALUATION_SPLITS = ("val", "test", "valid", "validation")


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A data set ready to be measured on.

    Attributes:
        truth, class_names, class_keys, blacklist: for the protocols. metric: the one asked for, or the format's own.
        dataset: with its images; None where only the annotation file is there. split: the part that was read.
        faults: what was left out while reading. files: the image file of each image id as the data set names it.
    """

    truth: TruthTable
    class_names: tuple[str, ...]
    class_keys: tuple[str | int, ...]
    blacklist: list[tuple[str, int]]
    metric: str
    dataset: Dataset | None
    split: str
    faults: tuple[Fault, ...]
    files: Mapping[str, str]

    def picture_of(self, proposals: Mapping[str, Proposals] | None = None) -> Callable[[str], PictureInfo | None]:
        """The image file of an image id, absolute, with the best of ``proposals`` if they are given; None for none."""
        dataset = self.dataset
        place = {} if dataset is None else {image_id: i for i, image_id in enumerate(dataset.image_ids)}

        def info(image_id: str) -> PictureInfo | None:
            if dataset is None or image_id not in place:
                return None
            index, given = place[image_id], (proposals or {}).get(image_id)
            rows = () if given is None else proposal_rows(given)
            return PictureInfo(str(dataset.path(index).resolve()), *dataset.image_size(index), rows)

        return info


def load_measured(
    data: Path,
    split: str | None,
    images: Path | None,
    metric: str | None,
    *,
    pictures_needed: bool,
    first: int | None = None,
) -> Measured:
    """Read the data set, or its ``first`` so many images.

    COCO's own metric on one COCO annotation file, named or chosen by its split, is measured on the file as it stands,
    every digit kept, images or not, unless a model must look at the images; everything else on the data set as the
    toolkit reads it for training.

    Raises:
        UserError: no such data, split or image folder; data without boxes, where no metric says what to do with it.
    """
    chosen = evaluation_split(data, split)
    files = coco_files(data, chosen)
    name = "+".join(files)
    if len(files) == 1 and not pictures_needed and first is None and metric in (None, "coco"):
        truth = read_coco_truth(files[name])
        try:
            dataset = load_dataset(data, chosen, images=images)
        except UserError:
            if images is not None:
                raise
            dataset = None  # no images for the gallery; the numbers need none
        return Measured(truth.table, truth.class_names, truth.class_keys, [], "coco", dataset, name, (), truth.files)
    dataset = load_dataset(data, chosen, images=images)
    if metric is None and dataset.format not in DEFAULT_METRIC:
        raise UserError(
            f"{data} has no boxes, only a class for each image; measure how a model names them with --metric images"
        )
    if first is not None:
        dataset = dataset.subset(range(min(first, len(dataset))))
    measure = metric or DEFAULT_METRIC[dataset.format]
    names, keys = dataset.class_names, dataset.class_keys
    found = dict(zip(dataset.image_ids, dataset.paths, strict=True))
    about = dataset.blacklisted(), measure, dataset, name or dataset.split, dataset.faults, found
    return Measured(truth_of_dataset(dataset), names, keys, *about)


class EvaluateSettings(BaseModel):
    """What decides on which images and how a run was measured; paths are absolute, but ``detections`` in the run."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    data: str
    split: str | None
    metric: Literal[tuple(METRICS)]  # type: ignore[valid-type]
    images: str | None
    model: str | None
    detections: str
    format: str | None
    image_list: str | None
    invalid: OnFault
    unknown_classes: OnFault
    first: int | None = Field(default=None, ge=1)
    detections_sha256: str | None = None


def read_evaluate_settings(run: Path) -> EvaluateSettings:
    """The settings of a run folder.

    Raises:
        UserError: its ``config.yaml`` is missing, not YAML or not that of a run that measured detections.
    """
    file = run / CONFIG_FILE
    if not file.is_file():
        raise UserError(f"{run}: not a run of detector evaluate: it has no {CONFIG_FILE}; name a run folder")
    settings: Any = read_yaml(file).get("config")
    if not isinstance(settings, dict) or not {"data", "metric", "detections"} <= set(settings):
        raise UserError(f"{run}: not a run of detector evaluate; name one")
    return parse(EvaluateSettings, settings, file)


def digest_of(detections: Path, format: str | None) -> str | None:
    """The SHA-256 of a file of detections, or of the list of those of a folder's; None for a pipe, read only once.

    Raises:
        UserError: they are not there or cannot be read, or their names tell no format.
    """
    digests = {}
    for file in detection_files(detections, format or recognise_format(detections)):
        if file.exists() and not file.is_file():
            return None
        try:
            with file.open("rb") as content:
                digests[file.name] = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{file}: cannot read: {error.strerror}") from error
    several = hashlib.sha256(repr(digests).encode("utf-8", "surrogateescape")).hexdigest()
    return several if len(digests) != 1 else next(iter(digests.values()))


def check_unchanged(run: Path, settings: EvaluateSettings) -> None:
    """UserError where the detections that ``run`` has measured are gone or are others by now."""
    path = run / settings.detections
    if not path.exists():
        raise UserError(f"{run}: the detections that it measured are gone ({path}); put them back, or evaluate anew")
    if settings.detections_sha256 not in (None, digest_of(path, settings.format)):
        raise UserError(f"{run}: the detections that it measured have changed since ({path}); evaluate them anew")


def first_of_run(detections: Path) -> int | None:
    """How many images a run of ``detector evaluate --first N`` looked at; None for all, or for other detections.

    Args:
        detections: the run's folder or its ``detections.jsonl``.
    """
    if not detections.is_dir() and detections.name != JSONL_FILE:
        return None
    try:
        return read_evaluate_settings(detections if detections.is_dir() else detections.parent).first
    except UserError:  # no run folder of ours, which a detection file need not be in
        return None


def evaluation_split(data: Path, split: str | None) -> str | None:
    """``split``, or the validation or test split where there are several; None where there are none.

    Raises:
        UserError: there are splits and none of them is one to measure on.
    """
    available = dataset_splits(data)
    if split is not None or not available:
        return split
    for wanted in EVALUATION_SPLITS:
        matches = [name for name in available if name.rpartition("/")[2].rstrip("0123456789") == wanted]
        if len(matches) == 1:
            return matches[0]
    if len(available) == 1:
        return available[0]
    raise UserError(f"{data} has the splits {', '.join(available)}; name the one to measure on with --split")


def read_for(
    measured: Measured, path: Path, *, format: str | None, image_list: Path | None, invalid: OnFault, unknown: OnFault
) -> DetectionTable:
    """Detections from a file, in the classes and images of ``measured``.

    Images whose ids the data set does not know are looked for by the names of their files; that is said in one line.

    Raises:
        UserError: see :func:`read_detections`; also where not one detection is of an image of the data set.
    """
    format = format or recognise_format(path)
    numbers = None if image_list is None else read_image_numbers(image_list)
    names, keys, truth = measured.class_names, measured.class_keys, measured.truth
    table = read_detections(
        path, names, class_keys=keys, image_numbers=numbers, format=format, invalid=invalid, unknown_class=unknown
    )
    table, line = joined_by_file(table, measured.files, numbers_are_ids=format == "coco")
    if line:
        log(f"{path}: {line}")
    if len(table) and not set(table.image_ids) & set(truth.image_ids):
        known = shown(truth.image_ids[0]) if truth.image_ids else "which is empty"
        raise UserError(
            f"{path}: none of its images ({shown(table.image_ids[0])}...) is in the data set ({known}...), nor is a "
            "file of such a name; do they belong together?"
        )
    return table
