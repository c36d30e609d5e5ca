"""Every variant of an experiment on every image, each image looked at once and kept as one file.

A file is written whole or not at all, so a measurement that was stopped goes on where it was, and several processes may
each look at some of the images.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms

from detector.detection.member import Member
from detector.detection.pipeline import Detector
from detector.detection.precision import DetectionPrecision
from detector.detection.suppression import PostprocessConfig
from detector.evaluation.class_index import ClassIndex
from detector.experiment.memory import Memory, RememberedMultiBox, RememberedSource, RememberingEnsemble
from detector.experiment.variants import Settings, Variant, merged, paper_variants
from detector.model.config import MemberConfig, ModelConfig, read_model_config
from detector.model.load import read_member, read_multibox, search_source
from detector.strict_yaml import parse
from detector.types import Detections
from proposals.boxes import FloatArray
from proposals.errors import UserError
from proposals.merge import MergeConfig
from proposals.types import Proposals

# What NumPy and zipfile raise at damaged bytes, which may also look encrypted or packed in another way.
_DAMAGE = (OSError, ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Row(NamedTuple):
    """A variant, the config that it makes of its model's, and the model's folder."""

    variant: Variant
    config: ModelConfig
    home: Path


class Looked(NamedTuple):
    """What was found in an image: detections by variant, and boxes ``(N, 4)`` by the first variant with them."""

    detections: dict[str, Detections]
    proposals: dict[str, FloatArray]


def rows_of(
    models: Sequence[tuple[str, Path, ModelConfig]], variants: Sequence[Variant], change: Settings
) -> list[Row]:
    """The rows of an experiment; without ``variants`` the paper's comparisons of each model.

    Args:
        models: name, folder and config of each. change: of every config, before the variant's own.

    Raises:
        UserError: a change does not fit its model.
    """
    if not variants:
        prefixes = ["" if len(models) == 1 else f"{name}: " for name, _, _ in models]
        found = [paper_variants(config, name, pre) for (name, _, config), pre in zip(models, prefixes, strict=True)]
        for other in found[1:]:
            other[0] = other[0].model_copy(update={"against": (found[0][0].name,)})
        variants = [variant for each in found for variant in each]
    by_name = {name: (home, config) for name, home, config in [("", *models[0][1:]), *models]}
    rows = []
    for variant in variants:
        home, config = by_name[variant.model]
        common = parse(ModelConfig, merged(config.model_dump(), change), f"{home}: measurement.change")
        rows.append(Row(variant, variant.of(common), home))
    return rows


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


class Study:
    """Measures variants on images.

    Args:
        rows: what to measure. class_names: of the data; what a model finds of other classes is left out.
        folder: where each image's file goes. device: of the networks. seed: random seed of proposal ranking.
        precision: what the networks compute in.

    Raises:
        UserError: a model cannot be read, or has no class in common with the data.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        class_names: tuple[str, ...],
        folder: Path,
        device: torch.device,
        seed: int = 0,
        precision: DetectionPrecision = "auto",
    ) -> None:
        self.rows, self.class_names, self.folder, self.device, self.seed = rows, class_names, folder, device, seed
        self.precision = precision
        self.memory = Memory()
        self.members: dict[tuple[Path, MemberConfig], Member] = {}
        self.sources: dict[str, RememberedSource] = {}
        self.multiboxes: dict[str, RememberedMultiBox] = {}
        self.labels = {row.variant.name: self._labels(row) for row in rows}
        self.detectors = {row.variant.name: self._detector(row) for row in rows}
        first: dict[str, str] = {}
        for row in rows:
            what_decides_regions = row.config.model_dump_json(include={"proposals", "multibox"})
            first.setdefault(what_decides_regions, row.variant.name)
        self.named_regions = list(first.values())

    def path(self, image_id: str) -> Path:
        """The file of an image."""
        # A name that does not depend on what characters the id has.
        return self.folder / (hashlib.sha256(image_id.encode(errors="surrogatepass")).hexdigest()[:24] + ".npz")

    def look(self, image_id: str, read: Callable[[], NDArray[np.uint8]]) -> Looked:
        """What every variant finds, from the image's file or by looking at it.

        Args:
            read: gives the image ``(H, W, 3)`` uint8 RGB; not called where the file is there and whole.
        """
        known = self._load(self.path(image_id))
        if known is None:
            known = self._measure(read())
            self._save(self.path(image_id), known)
        return known

    def _measure(self, image: NDArray[np.uint8]) -> Looked:
        self.memory.clear()
        found: dict[str, Detections] = {}
        regions: dict[str, FloatArray] = {}
        # Most members first: what they all say of a region each of them need not say again.
        for row in sorted(self.rows, key=lambda row: -len(row.config.members)):
            name = row.variant.name
            seen, proposals = self.detectors[name].detect(image)
            found[name] = replace(seen, labels=self.labels[name][seen.labels])
            regions[name] = proposals.boxes
        in_order = {row.variant.name: found[row.variant.name] for row in self.rows}
        return Looked(in_order, {name: regions[name] for name in self.named_regions})

    def _labels(self, row: Row) -> NDArray[np.int64]:
        """The data's label of each class of a model, or -1."""
        index = ClassIndex(self.class_names)
        labels = np.array([index.find(name) for name in row.config.class_names], np.int64)
        if labels.max() < 0:
            raise UserError(f"{row.home}: the model and the data have no class in common")
        return labels

    def _detector(self, row: Row) -> Detector | JoinedDetector:
        config, count = row.config, len(row.config.class_names)
        if row.variant.combine == "nms":
            plain = row.variant.model_copy(update={"combine": "mean"})
            alone = [config.model_copy(update={"members": (member,)}) for member in config.members]
            return JoinedDetector([self._detector(Row(plain, one, row.home)) for one in alone], config.postprocess)
        keys = [(row.home, member) for member in config.members]
        members = [self._member(*key, count) for key in keys]
        ensemble = RememberingEnsemble(
            keys, members, self.device, config.temperature, self.memory, row.variant.combine, self.precision
        )
        limit, known = config.proposals.max_proposals, np.flatnonzero(self.labels[row.variant.name] >= 0)
        return Detector(
            self._source(row),
            ensemble,
            config.class_names,
            config.postprocess,
            limit,
            config.refinement,
            tuple(known.tolist()),
            multibox=self._multibox(row),
            merging=MergeConfig() if config.multibox is None else config.multibox.merge,
        )

    def _source(self, row: Row) -> RememberedSource:
        """The row's selective search, which runs once for all rows that have it."""
        config = row.config.proposals.model_copy(update={"max_proposals": None})
        what = config.model_dump_json()
        if what not in self.sources:
            self.sources[what] = RememberedSource(search_source(config, self.seed))
        return self.sources[what]

    def _multibox(self, row: Row) -> RememberedMultiBox | None:
        """The row's MultiBox, on the maps of its model's first network, whichever networks the row itself has."""
        multibox = row.config.multibox
        if multibox is None:
            return None
        what = f"{row.home} {multibox.model_dump_json(exclude={'merge'})}"
        if what not in self.multiboxes:
            first = read_model_config(row.home).members[0]
            own = [self._member(row.home, first, len(row.config.class_names))]
            ensemble = RememberingEnsemble(
                [(row.home, first)], own, self.device, 1.0, self.memory, precision=self.precision
            )
            head = read_multibox(row.home, multibox)
            self.multiboxes[what] = RememberedMultiBox(head, ensemble, multibox.maps, multibox.proposals)
        return self.multiboxes[what]

    def _member(self, home: Path, config: MemberConfig, num_classes: int) -> Member:
        """A network, read once."""
        if (home, config) not in self.members:
            self.members[home, config] = read_member(home, config, num_classes)
        return self.members[home, config]

    def _save(self, path: Path, looked: Looked) -> None:
        arrays: dict[str, NDArray[np.generic]] = {}
        for number, d in enumerate(looked.detections.values()):
            arrays |= {f"boxes {number}": d.boxes, f"scores {number}": d.scores, f"labels {number}": d.labels}
        arrays |= {f"regions {number}": boxes for number, boxes in enumerate(looked.proposals.values())}
        size = next(iter(looked.detections.values())).image_size
        write_arrays(path, {**arrays, "size": np.array(size, np.int64)}, self._what())

    def _what(self) -> str:
        """What was measured, so that a file of other variants is not taken for one of these."""
        about = {"provenance", "scores", "description", "licence"}
        rows = [
            [row.variant.name, row.variant.combine, row.config.model_dump(mode="json", exclude=about)]
            for row in self.rows
        ]
        return json.dumps([rows, self.class_names, self.seed, self.precision])

    def _load(self, path: Path) -> Looked | None:
        """What an image's file holds; ``None`` where it is missing, damaged or of other variants."""
        file = read_arrays(path, self._what())
        if file is None:
            return None
        height, width = file["size"].tolist()
        detections = {
            row.variant.name: Detections(file[f"boxes {n}"], file[f"scores {n}"], file[f"labels {n}"], (height, width))
            for n, row in enumerate(self.rows)
        }
        return Looked(detections, {name: file[f"regions {n}"] for n, name in enumerate(self.named_regions)})


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]], what: str) -> None:
    """Write ``arrays`` under their names, with ``what`` they are: to another name first, of this process alone."""
    memory = io.BytesIO()
    np.savez_compressed(memory, **{**arrays, "what": np.array(what)})  # type: ignore[arg-type]
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.unfinished")
    with temporary.open("wb") as file:
        file.write(memory.getvalue())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_arrays(path: Path, what: str) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file; ``None`` where it is missing, damaged, or of something other than ``what``."""
    if not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes())) as file:
            if str(file["what"]) != what:
                return None
            return {name: file[name] for name in file.files if name != "what"}
    except _DAMAGE:
        return None
