"""The recipes that have a name."""

from __future__ import annotations

from enum import Enum


class Recipe(str, Enum):
    """What ``train --recipe`` takes; see docs/training.md."""

    shared = "shared"
    finetune = "finetune"
    multibox = "multibox"
    svm = "svm"
    paper = "paper"
    ensemble = "ensemble"
    classifier = "classifier"
