"""Classes found by their names, or by their ids: two kinds of key that are never mixed.

A class called "1" is not the category with id 1. Results files of COCO hold ids; all other files hold names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from detector.data.classes import identity
from detector.shown import brief
from proposals.errors import UserError


class ClassIndex:
    """Labels by words of one kind, by label; ``Traffic_Light`` finds ``traffic light`` if nothing else is called so."""

    def __init__(self, words: Sequence[str | int]) -> None:
        self.words = tuple(str(word) for word in words)
        self._said: dict[int, str] = {}
        self._exact: dict[str, list[int]] = {}
        self._folded: dict[str, list[int]] = {}
        for label, word in enumerate(self.words):
            self._exact.setdefault(word, []).append(label)
            self._folded.setdefault(_fold(word), []).append(label)

    def find(self, word: str) -> int:
        """The label, or -1.

        Raises:
            UserError: two classes have this very word, or another word has found this class before.
        """
        label = self._look_up(word)
        if label >= 0 and self._said.setdefault(label, word) != word:
            raise UserError(
                f"{brief(self._said[label])} and {brief(word)} are both taken for the class {brief(self.words[label])}"
                "; use one spelling, or rename one of them"
            )
        return label

    def _look_up(self, word: str) -> int:
        labels = self._exact.get(word)
        if labels is None:
            labels = self._folded.get(_fold(word), [])
            return labels[0] if len(labels) == 1 else -1
        if len(labels) > 1:
            raise UserError(f"{brief(word)} is the name or id of {len(labels)} classes; make them differ")
        return labels[0]


def _fold(word: str) -> str:
    return " ".join(word.replace("_", " ").casefold().split())


def id_key(value: Any) -> int | str | None:
    """An id of an image or category in JSON; None where ``value`` is none.

    Whole numbers are one id however they are written, 7 or 7.0, as in pycocotools.
    """
    key = identity(value)
    return repr(value) if key is None and type(value) is float and math.isfinite(value) else key


def id_text(value: Any) -> str | None:
    """The id as text, by which ids are compared: ``7``, ``7.0`` and ``"7"`` are the same one."""
    key = id_key(value)
    return None if key is None else str(key)
