"""Lists too long for memory: what was found is kept in temporary files, which SQLite makes and removes."""

from __future__ import annotations

import os
import pickle
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, Generic, TypeVar, overload

from proposals.errors import UserError

Item = TypeVar("Item")
AT_ONCE = 256  # items that are read together
CACHE_KIB = 8192


class _Database:
    """A temporary database of one table of ``columns``, with an ``option`` of SQLite's behind them."""

    def __init__(self, columns: str, option: str = "") -> None:
        self.connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # "": in a temporary file
        for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}"):
            self.do(f"PRAGMA {setting}")
        self.do(f"CREATE TABLE rows ({columns}) {option}")
        self.do("BEGIN")

    def do(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """Execute ``statement``; UserError where there is no room."""
        try:
            return self.connection.execute(statement, values)
        except sqlite3.Error as error:
            raise UserError(
                f"the list of inputs cannot be kept in a temporary file: {error}; TMPDIR may name another folder"
            ) from None


class Names:
    """A set of texts."""

    def __init__(self) -> None:
        self._database = _Database("name BLOB PRIMARY KEY, last INTEGER", "WITHOUT ROWID")

    def add(self, name: str) -> bool:
        """Whether ``name`` was not in it; it is now."""
        return self._database.do("INSERT OR IGNORE INTO rows VALUES (?, 1)", os.fsencode(name)).rowcount > 0

    def unique(self, name: str) -> str:
        """``name``, or with ``-2``, ``-3``... behind it where that is in it; the result is added.

        The last such number is kept with each name, so that one which comes again and again is no search.
        """
        if self.add(name):
            return name
        key = os.fsencode(name)
        (number,) = self._database.do("SELECT last FROM rows WHERE name = ?", key).fetchone()
        number += 1
        while not self.add(f"{name}-{number}"):
            number += 1
        self._database.do("UPDATE rows SET last = ? WHERE name = ?", number, key)
        return f"{name}-{number}"


class FoundInputs(Sequence[Item], Generic[Item]):
    """Items in their order, a few of them in memory at a time; a slice, of neighbours, is a view.

    Any thread may read it.
    """

    def __init__(self) -> None:
        self._database = _Database("number INTEGER PRIMARY KEY, item BLOB")
        self._rows = range(0)

    def append(self, item: Item) -> None:
        """Add ``item`` behind the others."""
        self._database.do("INSERT INTO rows VALUES (?, ?)", len(self._rows), pickle.dumps(item))
        self._rows = range(len(self._rows) + 1)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> FoundInputs[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | FoundInputs[Item]:
        if isinstance(index, slice):
            if index.step not in (None, 1):
                raise ValueError("a slice is of neighbours")
            view: FoundInputs[Item] = object.__new__(FoundInputs)
            view._database, view._rows = self._database, self._rows[index]
            return view
        number = self._rows[index]
        return self._read(range(number, number + 1))[0]

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self._rows), AT_ONCE):
            yield from self._read(self._rows[start : start + AT_ONCE])

    def _read(self, rows: range) -> list[Item]:
        found = self._database.do("SELECT item FROM rows WHERE number >= ? AND number < ?", rows.start, rows.stop)
        return [pickle.loads(item) for (item,) in found.fetchall()]


def sorted_on_disk(pairs: Iterable[tuple[bytes, str]]) -> Iterator[str]:
    """The second of each of ``pairs``, in the order of the pairs; all of these are read at once."""
    database = _Database("key BLOB, name BLOB")
    for key, name in pairs:
        database.do("INSERT INTO rows VALUES (?, ?)", key, os.fsencode(name))
    return _sorted_names(database)


def _sorted_names(database: _Database) -> Iterator[str]:
    with closing(database.connection):
        for (name,) in database.do("SELECT name FROM rows ORDER BY key, name"):
            yield os.fsdecode(name)
