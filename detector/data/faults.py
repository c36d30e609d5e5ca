"""What can be wrong with a data set, by name, and what is done about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from detector.shown import one_line

IMAGE_LEFT_OUT = "image left out"
BOX_LEFT_OUT = "box left out"
SPLIT_LEFT_OUT = "split left out"
STOPS = "nothing to use"
KEPT = "kept"

EFFECTS = {
    # Found while the annotations are read.
    "missing-image": IMAGE_LEFT_OUT,
    "ambiguous-image": IMAGE_LEFT_OUT,
    "missing-split": SPLIT_LEFT_OUT,
    "missing-annotation": IMAGE_LEFT_OUT,
    "bad-annotation": IMAGE_LEFT_OUT,
    "escaping-path": IMAGE_LEFT_OUT,
    "duplicate-image": IMAGE_LEFT_OUT,
    "orphan-box": BOX_LEFT_OUT,
    "bad-object": BOX_LEFT_OUT,
    "not-a-number": BOX_LEFT_OUT,
    "inverted-box": BOX_LEFT_OUT,
    "zero-area-box": BOX_LEFT_OUT,
    "one-pixel-box": BOX_LEFT_OUT,
    "outside-box": BOX_LEFT_OUT,
    "clipped-box": KEPT,
    "unknown-class": BOX_LEFT_OUT,
    "same-stem": KEPT,
    "filename-mismatch": KEPT,
    # Found as early as sizes are compared: for labelling tools' folders while reading, for all by the check.
    "unreadable-image": IMAGE_LEFT_OUT,
    "size-mismatch": IMAGE_LEFT_OUT,
    "turned-boxes": KEPT,
    # Found by the check, which opens every picture and compares all splits.
    "empty-split": STOPS,
    "duplicate-box": KEPT,
    "duplicate-picture": KEPT,
    "shared-picture": KEPT,
    "similar-classes": KEPT,
}
"""Each kind of fault and what becomes of the picture or box that has it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a data set.

    Attributes:
        kind: a key of ``EFFECTS``. file: the file to look at. message: what is wrong there, one line.
    """

    kind: str
    file: str
    message: str

    def __post_init__(self) -> None:
        if self.kind not in EFFECTS:
            raise ValueError(f"unknown kind of fault: {self.kind!r}")
        object.__setattr__(self, "file", one_line(self.file))
        object.__setattr__(self, "message", one_line(self.message))

    @property
    def effect(self) -> str:
        """``picture left out``, ``box left out``, ``split left out``, ``nothing to use`` or ``kept``."""
        return EFFECTS[self.kind]

    def __str__(self) -> str:
        return f"{self.file}: {self.message} [{self.kind}; {self.effect}]"


def count_faults(faults: Iterable[Fault]) -> dict[str, int]:
    """Number of faults of each kind that occurs, in the order of ``EFFECTS``."""
    counts = Counter(fault.kind for fault in faults)
    return {kind: counts[kind] for kind in EFFECTS if counts[kind]}


def summarise_faults(faults: Iterable[Fault]) -> str:
    """``3 faults: 2 missing-image, 1 inverted-box``; ``no faults`` if there are none."""
    counts = count_faults(faults)
    total = sum(counts.values())
    if not total:
        return "no faults"
    kinds = ", ".join(f"{n} {kind}" for kind, n in counts.items())
    return f"{total} fault{'s' if total > 1 else ''}: {kinds}"
