"""Many strings in two arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from detector.data.flat import offsets_of, take_rows


class StringArray(Sequence[str]):
    """An immutable sequence of strings held as UTF-8 bytes and offsets; lone surrogates are kept.

    A list of 100,000 strings is 100,000 objects: every loader worker that looks at one changes its reference count, so
    that the pages which the workers shared are copied, one by one, until each worker has its own list. Two arrays stay
    shared and pickle at the speed of memory.
    """

    __slots__ = ("_bytes", "_offsets")

    def __init__(self, strings: Iterable[str] = ()) -> None:
        encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
        self._offsets = offsets_of(np.array([len(piece) for piece in encoded], np.int64))
        self._bytes = np.frombuffer(b"".join(encoded), np.uint8)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> StringArray: ...
    def __getitem__(self, index: int | slice) -> str | StringArray:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        position = range(len(self))[index]  # negative indices, and IndexError beyond the ends
        piece = self._bytes[self._offsets[position] : self._offsets[position + 1]]
        return piece.tobytes().decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        data, offsets = self._bytes.tobytes(), self._offsets.tolist()
        for start, end in pairwise(offsets):
            yield data[start:end].decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StringArray):
            return NotImplemented
        return np.array_equal(self._offsets, other._offsets) and np.array_equal(self._bytes, other._bytes)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"StringArray({len(self)} strings)"

    def select(self, index: ArrayLike) -> StringArray:
        """The strings at ``index``, integers ``(M,)`` from 0."""
        result = StringArray()
        result._offsets, positions = take_rows(self._offsets, np.asarray(index, np.int64))
        result._bytes = self._bytes[positions]
        return result
