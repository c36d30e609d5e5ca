"""Where do the missing mAP points go? The error kinds of TIDE (Bolya et al., ECCV 2020), and the missed split in two.

A false positive is, in this order: *localisation*, if its nearest truth of its class is covered too little (IoU from
the background threshold up to what the truth asks for); *classification*, if it covers a truth of another class;
*duplicate*, if it covers a truth of its class that another detection has; *background*, if it comes near nothing;
*both* otherwise. A truth without a true positive is *missed*, unless a localisation or classification error is of it.

The cost of a kind is the mAP gained by mending all of its errors: the best-scored localisation or classification error
of a truth that nobody has becomes a true positive, all other false positives of the kind go, missed truths no longer
count.

Where this differs from TIDE's code: AP and matching are the protocol's own (there COCO's); classes without a truth are
left out of the mean; ignored detections are no errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detector.evaluation.analysis_types import (
    ERROR_KINDS,
    MISSED_KINDS,
    TOTALS,
    ClassErrors,
    ErrorAnalysis,
    ErrorExample,
)
from detector.evaluation.average_precision import average_precision, mean_ap, precision_recall
from detector.evaluation.kernels import nearest_truths
from detector.evaluation.matches import Matches, Outcome
from proposals.boxes import iou

BACKGROUND_IOU = 0.1
"""IoU up to which a detection covers nothing."""
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def analyse_errors(
    matches: Matches,
    *,
    proposals: Mapping[str, ArrayLike] | None = None,
    examples: int = 20,
) -> ErrorAnalysis:
    """Name every error and say what each kind costs.

    Args:
        matches: of an evaluation; of COCO's, the first IoU threshold is analysed.
        proposals: boxes ``(P, 4)`` of each image by id, to tell what no proposal covered from what was covered but
            scored low; an image that is absent had none. None: not known.
        examples: how many errors of each class and kind to keep for a gallery.
    """
    found = _classify(matches)
    by_proposals = None if proposals is None else _proposal_iou(matches, proposals)
    split: dict[str, BoolArray] = {}
    if by_proposals is not None:
        uncovered = by_proposals < matches.truth_iou
        split = {MISSED_KINDS[0]: found.missed & uncovered, MISSED_KINDS[1]: found.missed & ~uncovered}

    labels = {kind: matches.detections.labels[found.rows[found.kind == kind]] for kind in ERROR_KINDS[:-1]}
    labels |= {kind: matches.truth.labels[mask] for kind, mask in {"missed": found.missed, **split}.items()}
    counts = {kind: np.bincount(of_kind, minlength=len(matches.class_names)) for kind, of_kind in labels.items()}

    base = _class_aps(matches, _Fix())
    mended = {kind: _class_aps(matches, fix) for kind, fix in _fixes(matches, found, split).items()}
    mean = mean_ap(base)
    return ErrorAnalysis(
        iou_threshold=float(matches.iou_thresholds[0]),
        background_threshold=BACKGROUND_IOU,
        mean_ap=mean,
        proposals_known=proposals is not None,
        counts={kind: int(values.sum()) for kind, values in counts.items()},
        cost={kind: _gain(mean_ap(aps), mean) for kind, aps in mended.items()},
        classes=tuple(
            ClassErrors(
                label=label,
                name=name,
                ap=float(base[label]),
                counts={kind: int(values[label]) for kind, values in counts.items()},
                cost={kind: float(aps[label] - base[label]) for kind, aps in mended.items()},
            )
            for label, name in enumerate(matches.class_names)
        ),
        examples=_examples(matches, found, by_proposals, examples),
    )


def detection_kinds(matches: Matches) -> NDArray[np.str_]:
    """The kind of error ``(N,)`` of each detection; "" for a true positive, "ignored" for one that does not count."""
    names = np.array(["", "ignored", *ERROR_KINDS[:-1]])
    kinds = np.where(matches.outcome[0] == Outcome.IGNORED, "ignored", "").astype(names.dtype)
    found = _classify(matches)
    kinds[found.rows] = found.kind
    return kinds


def _gain(mended: float, base: float) -> float:
    """At least 0, as TIDE has it; 0 too where mending leaves no class to average over."""
    if np.isnan(base):
        return float("nan")
    return 0.0 if np.isnan(mended) else max(mended - base, 0.0)


# --- naming the errors ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Errors:
    """The false positives and the truths that were missed.

    ``rows`` ``(E,)`` rows of ``matches.detections``; ``kind``, ``truth`` (-1: none) and ``iou`` ``(E,)`` of each;
    ``mends`` ``(E,)`` whether mending it makes a true positive; ``missed``, ``taken`` ``(M,)`` of the truths.
    """

    rows: IntArray
    kind: NDArray[np.str_]
    truth: IntArray
    iou: NDArray[np.float64]
    mends: BoolArray
    missed: BoolArray
    taken: BoolArray


def _classify(matches: Matches) -> _Errors:
    taken = matches.taken()
    rows = np.flatnonzero(matches.outcome[0] == Outcome.FALSE_POSITIVE)
    truth, iou = _nearest(matches, rows, taken)

    own, other, used = (truth[:, k] for k in range(3))
    own_iou = iou[:, 0]
    asked = np.where(own >= 0, np.append(matches.truth_iou, 0.0)[own], -1.0)
    tests = {
        "localisation": (own >= 0) & (own_iou >= BACKGROUND_IOU) & (own_iou <= asked),
        "classification": other >= 0,
        "duplicate": used >= 0,
        "background": iou[:, 3] <= BACKGROUND_IOU,
    }
    kind = np.select(list(tests.values()), list(tests), default="both")
    column = np.select([kind == "localisation", kind == "classification", kind == "duplicate"], [0, 1, 2], default=3)
    about = truth[np.arange(len(rows)), column]
    about_iou = iou[np.arange(len(rows)), column]

    # One error mends a truth that nobody has: the best-scored one, of whichever of the two kinds.
    fixable = np.flatnonzero(((kind == "localisation") | (kind == "classification")) & ~np.append(taken, True)[about])
    scores = matches.detections.scores[rows[fixable]]
    order = fixable[np.lexsort((matches.rows[rows[fixable]], -scores, about[fixable]))]
    mends = np.zeros(len(rows), np.bool_)
    mends[order[np.flatnonzero(np.diff(about[order], prepend=-1))]] = True

    missed = matches.counted & ~taken
    missed[about[fixable]] = False
    about = np.where((kind == "background") & (about_iou == 0), -1, about)
    return _Errors(rows, kind, about, about_iou, mends, missed, taken)


def _nearest(matches: Matches, rows: IntArray, taken: BoolArray) -> tuple[IntArray, NDArray[np.float64]]:
    """As :func:`nearest_truths`, with truths as rows of ``matches.truth``."""
    truth = matches.truth
    counted = np.flatnonzero(matches.counted)
    by_image = counted[np.argsort(truth.image[counted], kind="stable")]
    image = matches.detections.image[rows]
    index, iou = nearest_truths(
        matches.detections.boxes[rows],
        matches.detections.labels[rows],
        np.searchsorted(truth.image[by_image], image, side="left"),
        np.searchsorted(truth.image[by_image], image, side="right"),
        truth.boxes[by_image],
        truth.labels[by_image],
        matches.truth_iou[by_image],
        taken[by_image],
    )
    return np.where(index >= 0, np.append(by_image, -1)[index], -1), iou


def _proposal_iou(matches: Matches, proposals: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
    """The IoU ``(M,)`` of each truth with the nearest proposal of its image; 0 without any."""
    truth, best = matches.truth, np.zeros(len(matches.truth))
    order = np.argsort(truth.image, kind="stable")
    images, starts = np.unique(truth.image[order], return_index=True)
    for image, rows in zip(images, np.split(order, starts[1:]), strict=False):
        boxes = np.asarray(proposals.get(truth.image_ids[image], ()), np.float64).reshape(-1, 4)
        best[rows] = iou(truth.boxes[rows], boxes).max(axis=1, initial=0)
    return best


# --- mending them -----------------------------------------------------------------------------------------------------


_NONE: IntArray = np.zeros(0, np.int64)


class _Fix(NamedTuple):
    """What changes: detections that go, detections that become true positives of a truth, truths that no longer count,
    or every true positive placed before every false one."""

    removed: IntArray = _NONE
    mended: IntArray = _NONE
    mended_truth: IntArray = _NONE
    uncounted: IntArray | BoolArray = _NONE
    true_first: bool = False


def _fixes(matches: Matches, found: _Errors, split: dict[str, BoolArray]) -> dict[str, _Fix]:
    fixes: dict[str, _Fix] = {}
    for kind in ERROR_KINDS[:-1]:
        of_kind = found.kind == kind
        mend = of_kind & found.mends
        fixes[kind] = _Fix(found.rows[of_kind & ~mend], found.rows[mend], found.truth[mend])
    fixes["missed"] = _Fix(uncounted=found.missed)
    fixes |= {kind: _Fix(uncounted=mask) for kind, mask in split.items()}
    fixes[TOTALS[0]] = _Fix(true_first=True)
    fixes[TOTALS[1]] = _Fix(uncounted=matches.counted & ~found.taken)
    return fixes


def _class_aps(matches: Matches, fix: _Fix) -> NDArray[np.float64]:
    """AP ``(K,)`` at the first threshold with ``fix`` applied; NaN for classes without a counted truth."""
    n_classes = len(matches.class_names)
    true = matches.outcome[0] == Outcome.TRUE_POSITIVE
    kept = matches.outcome[0] != Outcome.IGNORED
    labels = matches.detections.labels.copy()
    kept[fix.removed] = False
    true[fix.mended] = True
    labels[fix.mended] = matches.truth.labels[fix.mended_truth]
    rows = np.flatnonzero(kept)
    key = ~true[rows] if fix.true_first else -matches.detections.scores[rows]
    rows = rows[np.lexsort((key, labels[rows]))]
    bounds = np.searchsorted(labels[rows], np.arange(n_classes + 1))
    positives = matches.positives()
    remaining = positives - np.bincount(matches.truth.labels[fix.uncounted], minlength=n_classes)
    aps = np.full(n_classes, np.nan)
    for label in np.flatnonzero(positives):
        part = true[rows[bounds[label] : bounds[label + 1]]]
        if remaining[label] == 0:
            # As in TIDE: a class with nothing left to find is worth nothing, or no class at all if it is silent too.
            aps[label] = 0.0 if len(part) else np.nan
        else:
            aps[label] = average_precision(*precision_recall(part, int(remaining[label])), matches.ap_style)
    return aps


# --- showing them -----------------------------------------------------------------------------------------------------


def _examples(
    matches: Matches, found: _Errors, by_proposals: NDArray[np.float64] | None, limit: int
) -> tuple[ErrorExample, ...]:
    table, truth, names = matches.detections, matches.truth, matches.class_names

    def about(row: int) -> dict[str, Any]:
        """The truth of an error, -1 for none."""
        box = tuple(truth.boxes[row].tolist()) if row >= 0 else None
        return {"truth_box": box, "truth_class": names[truth.labels[row]] if row >= 0 else None}

    examples = []
    for kind in ERROR_KINDS[:-1]:
        of_kind = np.flatnonzero(found.kind == kind)  # sorted by class, then by descending score
        for i in _first_of_each(of_kind, table.labels[found.rows[of_kind]], limit):
            row = int(found.rows[i])
            image_id, name = table.image_ids[table.image[row]], names[table.labels[row]]
            score, box = float(table.scores[row]), tuple(table.boxes[row].tolist())
            near, overlap = about(int(found.truth[i])), float(found.iou[i])
            examples.append(ErrorExample(kind, None, image_id, name, score, box, iou=overlap, **near))
    examples.sort(key=lambda example: -example.score)
    missed = np.flatnonzero(found.missed)
    missed = missed[np.lexsort((-truth.area[missed], truth.labels[missed]))]
    chosen = _first_of_each(missed, truth.labels[missed], limit)
    for row in sorted(chosen.tolist(), key=lambda row: -float(truth.area[row])):
        cause, overlap = None, float("nan")
        if by_proposals is not None:
            overlap = float(by_proposals[row])
            cause = "proposals" if overlap < matches.truth_iou[row] else "classifier"
        image_id, name = truth.image_ids[truth.image[row]], names[truth.labels[row]]
        examples.append(ErrorExample("missed", cause, image_id, name, float("nan"), None, iou=overlap, **about(row)))
    return tuple(examples)


def _first_of_each(items: IntArray, groups: IntArray, limit: int) -> IntArray:
    """The first ``limit`` of each run of equal ``groups``."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    position = np.arange(len(items)) - np.repeat(starts, np.diff(np.append(starts, len(items))))
    return items[position < limit]
