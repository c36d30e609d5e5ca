"""Every variant of an experiment on every picture, each picture looked at once and kept as one file.

A member sees a region once with and once without context, and only if a variant needs it; what it says of the region's
class and of the object's place comes from one pass and is shared by all variants. Members that crop alike share the
crops. A file is written whole or not at all, so a measurement that was stopped goes on where it was, and several
processes may each look at some of the pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.detection.ensemble import Ensemble, Member
from detector.detection.localize import Located, RegionLocalizer
from detector.detection.suppression import PostprocessConfig
from detector.experiment.picture_files import picture_path, read_arrays, write_arrays
from detector.experiment.variants import Variant, judge
from detector.nets.region_head import RegionOutput
from detector.types import Detections
from proposals.boxes import FloatArray
from proposals.merge import MergeConfig, merge
from proposals.types import Proposals, ProposalSource

BOXES_OF = "proposals of {}"
Key = tuple[str, int, bool]  # ensemble, number of the member, with context


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """Where regions come from: selective search with plain and with doubled superpixels, MultiBox, and their merge."""

    scale1: ProposalSource
    scale2: ProposalSource
    multibox: ProposalSource | None
    merging: MergeConfig

    def propose(self, image: NDArray[np.uint8], wanted: set[str]) -> dict[str, Proposals]:
        """The ``wanted`` sets of proposals for ``image``, each source run once.

        Raises:
            ValueError: MultiBox is wanted and not there.
        """
        needed = {part for name in wanted for part in name.split("+")}
        if "multibox" in needed and self.multibox is None:
            raise ValueError("the experiment has variants with MultiBox but no MultiBox network")
        found = {name: getattr(self, name).propose(image) for name in sorted(needed)}
        if "scale2+multibox" in wanted:
            found["scale2+multibox"] = merge(found["scale2"], found["multibox"], **dict(self.merging))
        return {name: found[name] for name in wanted}


class Study:
    """Measures variants on pictures.

    Args:
        members: of each ensemble by name; those with box regression move the boxes of variants with regression, and
            those with predicted overlaps weigh the scores of variants with overlap.
        variants: what to measure. sources: of proposals.
        postprocess: the thresholds of a variant; the score threshold should be low, because AP needs the low scores.
        folder: where each picture's file goes. device: of the networks.
        localizer: for variants with it.

    Raises:
        ValueError: a variant names an ensemble or a member that is not there, or regression or overlaps that no member
            of it has, or needs a localizer that is not there.
    """

    def __init__(
        self,
        members: Mapping[str, Sequence[Member]],
        variants: Sequence[Variant],
        sources: Sources,
        postprocess: Callable[[Variant], PostprocessConfig],
        folder: Path,
        device: torch.device,
        localizer: RegionLocalizer | None = None,
    ) -> None:
        for variant in variants:
            if variant.ensemble not in members or max(variant.members) >= len(members[variant.ensemble]):
                raise ValueError(f"{variant.name}: no member {max(variant.members)} of ensemble {variant.ensemble!r}")
            mine = [members[variant.ensemble][m] for m in variant.members]
            if variant.regression and not any(member.has_box_head for member in mine):
                raise ValueError(f"{variant.name}: none of its members has box regression")
            if variant.overlap and not any(member.has_overlap_head for member in mine):
                raise ValueError(f"{variant.name}: none of its members predicts overlaps")
            if variant.localizer and localizer is None:
                raise ValueError(f"{variant.name}: there is no localizer")
        self.variants, self.sources, self.folder, self.localizer = variants, sources, folder, localizer
        self.thresholds = {v.name: postprocess(v) for v in variants}
        needs: dict[Key, set[str]] = {}
        for variant in variants:
            for number in variant.members:
                needs.setdefault((variant.ensemble, number, variant.context), set()).add(variant.proposals)
        alike: dict[tuple[bool, frozenset[str]], list[Key]] = {}
        for key, names in needs.items():
            alike.setdefault((key[2], frozenset(names)), []).append(key)
        # Members that look at the same regions, the names of these, and the ensemble that looks.
        self.looks = [
            (keys, names, Ensemble([_copy(members[name][number], context) for name, number, _ in keys], device))
            for (context, names), keys in alike.items()
        ]

    def path(self, image_id: str) -> Path:
        """The file of a picture."""
        return picture_path(self.folder, image_id)

    def look(self, image_id: str, read: Callable[[], NDArray[np.uint8]]) -> dict[str, Detections]:
        """The detections of every variant, from the picture's file or by looking at it.

        Args:
            read: gives the picture ``(H, W, 3)`` uint8 RGB; not called where the file is there and whole.
        """
        known = self._load(self.path(image_id))
        if known is None:
            found, proposals = self._measure(read())
            self._save(self.path(image_id), found, proposals)
            return found
        return known

    def proposals(self, image_id: str) -> dict[str, FloatArray]:
        """The boxes ``(N, 4)`` of each set of proposals of a picture that was looked at."""
        with np.load(self.path(image_id)) as file:
            return {name: file[BOXES_OF.format(name)] for name in self._regions()}

    def _regions(self) -> list[str]:
        return sorted({v.proposals for v in self.variants})

    def _measure(self, image: NDArray[np.uint8]) -> tuple[dict[str, Detections], dict[str, Proposals]]:
        proposals = self.sources.propose(image, set(self._regions()))
        boxes, rows = _together([proposals[name].boxes for name in self._regions()])
        row_of = dict(zip(self._regions(), rows, strict=True))
        size = (image.shape[0], image.shape[1])
        opinions: dict[Key, RegionOutput] = {}
        for keys, names, ensemble in self.looks:
            wanted = np.unique(np.concatenate([row_of[name] for name in sorted(names)]))
            for key, opinion in zip(keys, ensemble.predict_members(image, boxes[wanted]), strict=True):
                opinions[key] = opinion.each(partial(_spread, rows=torch.from_numpy(wanted), count=len(boxes)))
        located = self._locate(image, boxes, row_of)
        found = {}
        for v in self.variants:
            mine, keys = row_of[v.proposals], [(v.ensemble, number, v.context) for number in v.members]
            chosen = [
                opinions[key].each(partial(torch.index_select, dim=0, index=torch.from_numpy(mine))) for key in keys
            ]
            here = None if located is None else Located(located.overlap[mine], located.boxes[mine])
            found[v.name] = judge(boxes[mine], chosen, v, size, self.thresholds[v.name], here)
        return found, proposals

    def _locate(
        self, image: NDArray[np.uint8], boxes: FloatArray, row_of: Mapping[str, NDArray[np.int64]]
    ) -> Located | None:
        """What the localizer says of ``boxes``; zeros in the rows that no variant asks it about."""
        names = sorted({v.proposals for v in self.variants if v.localizer})
        if self.localizer is None or not names:
            return None
        wanted = np.unique(np.concatenate([row_of[name] for name in names]))
        seen = self.localizer.predict(image, boxes[wanted])
        located = Located(np.zeros(len(boxes), np.float32), np.zeros((len(boxes), 4), np.float32))
        located.overlap[wanted], located.boxes[wanted] = seen.overlap, seen.boxes
        return located

    def _save(self, path: Path, found: dict[str, Detections], proposals: dict[str, Proposals]) -> None:
        arrays: dict[str, NDArray[np.generic]] = {}
        for number, v in enumerate(self.variants):
            d = found[v.name]
            arrays |= {f"boxes {number}": d.boxes, f"scores {number}": d.scores, f"labels {number}": d.labels}
        arrays |= {BOXES_OF.format(name): p.boxes for name, p in proposals.items()}
        size = next(iter(found.values())).image_size
        arrays |= {"size": np.array(size, np.int64)}
        write_arrays(path, arrays, self._what())

    def _what(self) -> str:
        """What was measured, so that a file of other variants is not taken for one of these."""
        return json.dumps([[v.model_dump(mode="json"), self.thresholds[v.name].model_dump()] for v in self.variants])

    def _load(self, path: Path) -> dict[str, Detections] | None:
        """The detections in a picture's file; ``None`` where it is missing, damaged or of other variants."""
        file = read_arrays(path, self._what())
        if file is None:
            return None
        height, width = file["size"].tolist()
        return {
            v.name: Detections(file[f"boxes {n}"], file[f"scores {n}"], file[f"labels {n}"], (height, width))
            for n, v in enumerate(self.variants)
        }


def _copy(member: Member, context: bool) -> Member:
    """The member, for crops with or without its context padding; the network itself is shared."""
    crop = member.crop if context else member.crop.model_copy(update={"context_pad": 0})
    return Member(member.net, crop, member.normalization, member.head)


def _spread(table: Tensor, rows: Tensor, count: int) -> Tensor:
    """A table of ``count`` rows with those of ``table`` at ``rows`` and zeros elsewhere."""
    full = torch.zeros(count, *table.shape[1:])
    full[rows] = table
    return full


def _together(parts: Sequence[FloatArray]) -> tuple[FloatArray, list[NDArray[np.int64]]]:
    """Different boxes ``(N, 4)`` of all parts, and each part's rows among them in its own order."""
    stacked = np.concatenate([np.zeros((0, 4), np.float32), *parts])
    boxes, rows = np.unique(stacked, axis=0, return_inverse=True)
    ends = np.cumsum([len(p) for p in parts])
    return boxes, np.split(rows.reshape(-1).astype(np.int64), ends[:-1])
