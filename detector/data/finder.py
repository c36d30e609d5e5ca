"""Which file of a folder does a name mean? Exact names first, then other capitals and other forms of the same letters.

Unicode has two forms of accented letters (one code, NFC, or letter and accent, NFD), and systems exchange them.

The names of an annotation file are looked up together, so that no picture is given twice. Only where there is no file
of a name are the folders before it passed over, which may be those of the machine that wrote it. Such looser answers
count only where they are the only ones: one file, and no other name of the annotation file that means it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from detector.data.paths import SPECIAL, Entries, list_entries, relative_name, tails
from detector.images.read import SUFFIXES

ANNOTATION_FOLDERS = ("Annotations", "annotations", "labels", "xml", "xmls")
UNREAD = "the image is in a folder that is not read; move it beside the others, or name its folder as a data set"


def folded(name: str) -> str:
    """``name`` without the difference of capitals and of composed letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def stem_of(name: str) -> str:
    """A picture's name without its ending; any other name as it is."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem.rpartition("/")[2] and dot + suffix.lower() in SUFFIXES else name


def unread_images(root: Path, read: Collection[Path]) -> Iterator[Path]:
    """Images in ``root``, in the folders that are ``read`` and directly below these, in none of those ``read``."""
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
        self.folders = dict.fromkeys(entries.folders)
        self.pictures = tuple(name for name in entries.files if stem_of(name) != name)

    @cached_property
    def by_stem(self) -> dict[str, tuple[str, ...]]:
        return _grouped(self.pictures, stem_of)

    @cached_property
    def by_folded_name(self) -> dict[str, tuple[str, ...]]:
        return _grouped(self.files, folded)

    @cached_property
    def by_folded_stem(self) -> dict[str, tuple[str, ...]]:
        return _grouped(self.pictures, lambda name: folded(stem_of(name)))

    @cached_property
    def by_folded_folder(self) -> dict[str, tuple[str, ...]]:
        return _grouped(self.folders, folded)


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    return {common: tuple(group) for common, group in groupby(sorted(names, key=key), key)}


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


# --- names in annotations ---------------------------------------------------------------------------------------------


class Match(NamedTuple):
    """The picture that a name means, relative to the finder's folder, or ``""``; and what is wrong, if anything is."""

    picture: str
    kind: str = ""
    message: str = ""


def locate(finder: PictureFinder, names: Sequence[str]) -> list[Match]:
    """The picture of each of ``names``, as an annotation file or a list gives them."""
    inside = {name: relative_name(name, finder.folder) for name in names}
    exact = {name: path for name, path in inside.items() if path is not None and finder.has(path)}
    found = {name: (exact[name],) if name in exact else _loosely(finder, name, path) for name, path in inside.items()}
    claims: dict[str, set[str]] = {}
    for name, pictures in found.items():
        for picture in pictures:
            claims.setdefault(picture, set()).add(name)

    def match(name: str) -> Match:
        pictures = found[name]
        if len(pictures) > 1:
            return several(name, pictures)
        if not pictures and inside[name] is None:
            return Match("", "escaping-path", f"{name!r} leads out of {finder.folder}")
        if not pictures:
            return Match("", "missing-image", f"there is no image {name} in {finder.folder}")
        others = sorted(claims[pictures[0]] - {name})
        if others and name not in exact:
            text = f"there is no image {name}; {pictures[0]} could be meant, but also by {others[0]}"
            return Match("", "ambiguous-image", text)
        return checked(finder, pictures[0])

    return [match(name) for name in names]


def locate_annotated(finder: PictureFinder, stem: str, file_name: str) -> Match:
    """The picture of an annotation file that has a file to itself.

    Args:
        stem: the annotation file's name without ``.xml``, relative. file_name: the picture's as it is said inside, or
            ``""``. It comes first; then ``stem`` as a whole name (``a.jpg.xml``) and as a stem.

    Returns:
        the match; with a fault beside the picture where another could have been meant.
    """
    folder, slash, _ = stem.rpartition("/")
    said = relative_name(file_name, finder.folder) if file_name else None
    beside = relative_name(folder + slash + file_name, finder.folder) if file_name else None
    own = finder.by_stem(stem_of(stem))
    for name in (beside, said if said and "/" in said else None):
        if name and finder.has(name):
            if own and stem_of(name) != stem_of(stem):
                text = f"its file name {name} was followed, although there is {own[0]}, called as the annotation is"
                return checked(finder, name, "filename-mismatch", text)
            return checked(finder, name)
    if stem_of(stem) != stem and finder.has(stem):
        return checked(finder, stem)
    if len(own) > 1:
        text = f"{own[0]} is taken; it shares its name with {' and '.join(own[1:])}"
        return checked(finder, own[0], "same-stem", text)
    for found in (
        own,
        finder.by_name(beside) if beside else (),
        finder.by_folded_stem(stem_of(stem)),
        next((f for tail in tails(file_name) if (f := finder.by_name(tail))), ()),
        finder.by_folded_stem(said) if said else (),
    ):
        if found:
            return checked(finder, found[0]) if len(found) == 1 else several(stem, found)
    return Match("", "missing-image", f"there is no image {stem} in {finder.folder}")


def checked(finder: PictureFinder, picture: str, kind: str = "", message: str = "") -> Match:
    """A match, unless the file must not be opened."""
    if finder.is_special(picture):
        return Match("", "unreadable-image", f"{finder.folder / picture} is {SPECIAL}")
    return Match(picture, kind, message)


def several(name: str, found: Sequence[str]) -> Match:
    """The fault that a name could mean more than one picture."""
    return Match("", "ambiguous-image", f"there is no image {name}, but there are {' and '.join(found)}")


def _loosely(finder: PictureFinder, name: str, inside: str | None) -> tuple[str, ...]:
    """Pictures that a name could mean which no file has as it stands."""
    if inside is not None and (found := finder.by_name(inside)):
        return found
    # The most parts that lead to a file: cats/a.jpg before a.jpg.
    return next((found for tail in tails(name) if (found := finder.by_name(tail))), ())


# --- annotations of images --------------------------------------------------------------------------------------------


def label_folder(pictures: Path) -> Path:
    """The folder of annotations alone that belongs to one of pictures; the same folder, if there is none."""
    parts = list(pictures.parts)
    if "images" not in parts:
        return pictures
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts)


def is_labelled(image: Path) -> bool:
    """Whether a VOC or YOLO annotation of the image's name lies where such a data set has it.

    That is beside the image, in a folder of annotations there or one above, or in ``labels`` in place of ``images``.
    """
    near = (image.parent, image.parent.parent)
    homes = [image.parent, label_folder(image.parent), *(base / name for base in near for name in ANNOTATION_FOLDERS)]
    names = [f"{name}{suffix}" for name in (image.stem, image.name) for suffix in (".xml", ".txt")]
    return any((home / name).is_file() for home in homes for name in names)
