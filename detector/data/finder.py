"""Which file of a folder does a name mean? Exact names first, then other capitals and other forms of the same letters.

Unicode has two forms of accented letters (one code, NFC, or letter and accent, NFD), and systems exchange them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path

from detector.data.paths import Entries, list_entries
from detector.images.read import SUFFIXES

UNREAD = "the image is in a folder that is not read; move it beside the others, or name its folder as a data set"


def folded(name: str) -> str:
    """``name`` without the difference of capitals and of composed letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def stem_of(name: str) -> str:
    """A picture's name without its ending; any other name as it is."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem.rpartition("/")[2] and dot + suffix.lower() in SUFFIXES else name


def unread_images(root: Path, read: Collection[Path]) -> Iterator[Path]:
    """Images in ``root``, in the folders that are ``read`` and directly below these, that lie in none of those ``read``."""
    above = dict.fromkeys((root, *read))
    below = (folder / name for folder in above for name in list_entries(folder).folders)
    for folder in dict.fromkeys((*above, *below)):
        if folder not in read:
            yield from (folder / name for name in PictureFinder(folder).all())


class _Listing:
    """One directory's names, sorted, with the tables that answer for them, each made when it is first needed."""

    def __init__(self, entries: Entries) -> None:
        self.files = dict.fromkeys(entries.files)
        self.special = frozenset(entries.special)
        self.folders = frozenset(entries.folders)

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        return tuple(name for name in self.files if stem_of(name) != name)

    @cached_property
    def by_stem(self) -> dict[str, tuple[str, ...]]:
        return _grouped((stem_of(name), name) for name in self.pictures)

    @cached_property
    def by_folded_name(self) -> dict[str, tuple[str, ...]]:
        return _grouped((folded(name), name) for name in self.files)

    @cached_property
    def by_folded_stem(self) -> dict[str, tuple[str, ...]]:
        return _grouped((folded(stem_of(name)), name) for name in self.pictures)

    @cached_property
    def by_folded_folder(self) -> dict[str, tuple[str, ...]]:
        return _grouped((folded(name), name) for name in sorted(self.folders))


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    for key, name in pairs:
        groups.setdefault(key, []).append(name)
    return {key: tuple(names) for key, names in groups.items()}


class PictureFinder:
    """Answers which files a folder holds, reading each directory's names once instead of asking for each file.

    Names are relative to the folder, with ``/``, as :func:`detector.data.paths.relative_name` makes them. Answers are
    sorted; several mean that more than one file could be meant.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listings: dict[str, tuple[str, _Listing]] = {}

    def has(self, name: str) -> bool:
        """Whether there is a file of this very name."""
        directory, _, file = name.rpartition("/")
        where, listing = self._listing(directory)
        return where == directory and file in listing.files

    def is_special(self, name: str) -> bool:
        """Whether ``name`` is a pipe, a device or a broken link: nothing that may be opened."""
        directory, _, file = name.rpartition("/")
        return file in self._listing(directory)[1].special

    def by_name(self, name: str) -> tuple[str, ...]:
        """The file called ``name``, else those that are called so but for capitals and the form of letters."""
        return (name,) if self.has(name) else self._answer(name, "by_folded_name")

    def by_stem(self, stem: str) -> tuple[str, ...]:
        """Pictures ``stem`` with any ending of ``SUFFIXES``."""
        directory, slash, file = stem.rpartition("/")
        where, listing = self._listing(directory)
        return tuple(where + slash + name for name in listing.by_stem.get(file, ())) if where == directory else ()

    def by_folded_stem(self, stem: str) -> tuple[str, ...]:
        """As :meth:`by_stem`, whatever the capitals and the form of letters."""
        return self._answer(stem, "by_folded_stem")

    def all(self) -> list[str]:
        """Names of all pictures directly in the folder, sorted."""
        return list(self._listing("")[1].pictures)

    def _answer(self, name: str, table: str) -> tuple[str, ...]:
        directory, slash, file = name.rpartition("/")
        where, listing = self._listing(directory)
        return tuple(where + slash + found for found in getattr(listing, table).get(folded(file), ()))

    def _listing(self, directory: str) -> tuple[str, _Listing]:
        """The directory as it is really called, and its names."""
        if directory not in self._listings:
            real = directory
            if directory:
                parent, slash, own = directory.rpartition("/")
                where, above = self._listing(parent)
                similar = above.by_folded_folder.get(folded(own), ())
                own = own if own in above.folders or len(similar) != 1 else similar[0]
                real = where + slash + own
            self._listings[directory] = real, _Listing(list_entries(self.folder / real))
        return self._listings[directory]
