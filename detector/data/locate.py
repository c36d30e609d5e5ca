"""Which pictures do the names in an annotation file mean? For a whole file at once, so that no picture is given twice.

A name is taken as it stands where there is such a file. Only then its capitals and the form of its letters are passed
over, and only then the folders before it, which may be those of the machine that wrote it. Such looser answers count
only where they are the only ones: one file, and no other name of the annotation file that means it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from detector.data.finder import PictureFinder, stem_of
from detector.data.paths import SPECIAL, relative_name, tails


class Match(NamedTuple):
    """The picture that a name means, relative to the finder's folder, or ``""``; and what is wrong, if anything is."""

    picture: str
    kind: str = ""
    message: str = ""


def locate(finder: PictureFinder, names: Sequence[str]) -> list[Match]:
    """The picture of each of ``names``, as an annotation file or a list gives them."""
    relative = [relative_name(name, finder.folder) for name in names]
    exact = [name if name is not None and finder.has(name) else "" for name in relative]
    claims: dict[str, set[str]] = {}
    for name, picture in zip(names, exact, strict=True):
        if picture:
            claims.setdefault(picture, set()).add(name)
    loose = {
        name: _loosely(finder, name, inside)
        for name, inside, picture in zip(names, relative, exact, strict=True)
        if not picture
    }
    for name, found in loose.items():
        for picture in found:
            claims.setdefault(picture, set()).add(name)
    matches = []
    for name, inside, picture in zip(names, relative, exact, strict=True):
        if picture:
            matches.append(checked(finder, picture))
            continue
        found = loose[name]
        if len(found) == 1 and claims[found[0]] == {name}:
            matches.append(checked(finder, found[0]))
        elif len(found) > 1:
            matches.append(several(name, found))
        elif found:
            others = sorted(claims[found[0]] - {name})
            text = f"there is no image {name}; {found[0]} could be meant, but also by {others[0]}"
            matches.append(Match("", "ambiguous-image", text))
        elif inside is None:
            matches.append(Match("", "escaping-path", f"{name!r} leads out of {finder.folder}"))
        else:
            matches.append(Match("", "missing-image", f"there is no image {name} in {finder.folder}"))
    return matches


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
