"""Top-1, top-5 and calibration by members and crops, each member's opinion of each picture asked for once.

The opinions of the first m members are averaged for every m at once, so that all rows of the table cost as much as the
one with the most members. Each picture has a file, as in :mod:`detector.experiment.measure`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detector.detection.ensemble import Ensemble, Member
from detector.evaluation.classification import ClassificationResult, answers, summarise, through_windows
from detector.experiment.picture_files import picture_path, read_arrays, write_arrays
from detector.types import ImageRecord


@dataclass(frozen=True, slots=True)
class NamingRow:
    """A row of the table: so many members, and what they named."""

    members: int
    result: ClassificationResult


class Naming:
    """Names the annotated objects of pictures with 1, 2, ... members and several numbers of crops.

    Args:
        members: the most that any row has. counts: of members, each a row. crops: 1, 10 or 144, each a row.
        folder: where each picture's file goes. device: of the networks.
    """

    def __init__(
        self, members: Sequence[Member], counts: Sequence[int], crops: Sequence[int], folder: Path, device: torch.device
    ) -> None:
        self.counts, self.crops, self.folder = tuple(counts), tuple(crops), folder
        self.ensemble = Ensemble(members[: max(counts)], device)

    def look(self, record: ImageRecord, read: Callable[[], NDArray[np.uint8]]) -> dict[str, NDArray[Any]]:
        """The answers about a picture's objects, from its file or by looking; ``read`` gives the picture.

        "labels" ``(R,)`` int64 and "answers" ``(crops, counts, R, 3)`` float64, see
        :func:`detector.evaluation.classification.answers`. Ignored objects and crowds are left out.
        """
        path = picture_path(self.folder, record.image_id)
        known = read_arrays(path, self._what())
        if known is not None:
            return known
        truth = record.ground_truth
        kept = ~(truth.ignore | truth.crowd)
        labels, boxes = truth.labels[kept], truth.boxes[kept]
        table = np.zeros((len(self.crops), len(self.counts), len(labels), 3))
        if len(labels):
            image = read()
            for row, crops in enumerate(self.crops):
                means = through_windows(self._means, image, boxes, crops)  # (R, counts, K + 1)
                for column in range(len(self.counts)):
                    table[row, column] = answers(means[:, column], labels)
        found: dict[str, NDArray[Any]] = {"labels": labels, "answers": table}
        write_arrays(path, found, self._what())
        return found

    def rows(
        self,
        looks: Sequence[dict[str, NDArray[Any]]],
        class_names: Sequence[str],
        bootstrap_samples: int,
        seed: int,
    ) -> list[NamingRow]:
        """The table, by members and then by crops, from what :meth:`look` gave for every picture."""
        labels = np.concatenate([np.zeros(0, np.int64), *(found["labels"] for found in looks)])
        empty = np.zeros((len(self.crops), len(self.counts), 0, 3))
        table = np.concatenate([empty, *(found["answers"] for found in looks)], axis=2)
        return [
            NamingRow(
                count,
                summarise(
                    table[j, i], labels, class_names, crops=crops, bootstrap_samples=bootstrap_samples, seed=seed
                ),
            )
            for i, count in enumerate(self.counts)
            for j, crops in enumerate(self.crops)
        ]

    def _means(self, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean probabilities ``(N, counts, K + 1)`` of the first so many members."""
        each = [opinion.probs.numpy() for opinion in self.ensemble.predict_members(image, boxes)]
        sums = np.cumsum(np.stack(each, axis=1), axis=1, dtype=np.float64)  # (N, members, K + 1)
        counts = np.array(self.counts)
        result: NDArray[np.float64] = sums[:, counts - 1] / counts[:, None]
        return result

    def _what(self) -> str:
        return json.dumps(["naming", self.counts, self.crops])


NAMING_COLUMNS = ("members", "crops", "objects", "top1", "top1_low", "top1_high", "top5", "ece")


def naming_csv(rows: Sequence[NamingRow]) -> str:
    """One line per row: objects, top-1 with the ends of its interval, top-5, expected calibration error."""
    lines = [",".join(NAMING_COLUMNS)]
    for row in rows:
        r, ends = row.result, row.result.top1_interval
        low, high = ("", "") if ends is None else (ends.low, ends.high)
        cells = (row.members, r.crops, r.count, r.top1, low, high, r.top5, r.calibration_error)
        lines.append(",".join(str(cell) for cell in cells))
    return "\n".join(lines) + "\n"


def naming_markdown(rows: Sequence[NamingRow]) -> str:
    """The table for people."""
    count = rows[0].result.count if rows else 0
    lines = [f"Naming {count:,} annotated objects; in %, ECE is the expected calibration error of 15 bins.", ""]
    lines += ["| members | crops | top-1 | top-5 | ECE |", "|---|---|---|---|---|"]
    for row in rows:
        r, ends = row.result, row.result.top1_interval
        spread = "" if ends is None else f" ({100 * ends.low:.1f} to {100 * ends.high:.1f})"
        shares = f"{100 * r.top1:.1f}{spread} | {100 * r.top5:.1f} | {100 * r.calibration_error:.1f}"
        lines.append(f"| {row.members} | {r.crops} | {shares} |")
    return "\n".join(lines) + "\n"
