"""Finding the pictures of a data set, and nothing outside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from detector.images import SUFFIXES
from proposals.errors import UserError


def relative_name(name: str, folder: Path) -> str | None:
    """``name``, as an annotation gives it, relative to ``folder`` with ``/``; None if it leads out of it.

    Names with Windows' separators are understood on every system. A symbolic link inside the folder is followed: the
    owner of the folder put it there.
    """
    if "\0" in name or not name.strip():
        return None
    if PureWindowsPath(name).drive:
        return None
    text = name if os.sep == "\\" else name.replace("\\", "/")
    if PurePosixPath(text).is_absolute():
        try:
            text = str(PurePosixPath(text).relative_to(folder.absolute().as_posix()))
        except ValueError:
            return None
    normal = os.path.normpath(text).replace(os.sep, "/")
    if normal in (".", "..") or normal.startswith("../"):
        return None
    return normal


def relative_prefix(root: Path, folder: Path) -> str:
    """What to put before names in ``folder`` to make them relative to ``root``: ``""`` or ``JPEGImages/``."""
    relative = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.absolute().as_posix()
    return "" if relative == "." else f"{relative}/"


@dataclass(frozen=True, slots=True)
class _Listing:
    names: frozenset[str]
    by_folded: dict[str, str]
    by_stem: dict[str, str]


class PictureFinder:
    """Answers which pictures a folder holds, reading each directory's names once instead of asking for each file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listings: dict[str, _Listing] = {}

    def by_name(self, name: str) -> str | None:
        """The file called ``name`` (relative, from :func:`relative_name`), or with other capitals; None: not there."""
        directory, slash, file = name.rpartition("/")
        listing = self._listing(directory)
        found = file if file in listing.names else listing.by_folded.get(file.casefold())
        return None if found is None else directory + slash + found

    def by_stem(self, stem: str) -> str | None:
        """The picture ``stem`` with any suffix of ``SUFFIXES``; None if there is none."""
        directory, slash, file = stem.rpartition("/")
        found = self._listing(directory).by_stem.get(file)
        return None if found is None else directory + slash + found

    def all(self) -> list[str]:
        """Names of all pictures directly in the folder, sorted; of several with one stem, the first."""
        return sorted(self._listing("").by_stem.values())

    def _listing(self, directory: str) -> _Listing:
        if directory not in self._listings:
            names = list_names(self.folder / directory)
            stems: dict[str, str] = {}
            for name in names:
                stem, dot, suffix = name.rpartition(".")
                if dot + suffix.lower() in SUFFIXES:
                    stems.setdefault(stem, name)
            self._listings[directory] = _Listing(frozenset(names), {name.casefold(): name for name in names}, stems)
        return self._listings[directory]


def list_names(folder: Path) -> list[str]:
    """Names of the files in ``folder``, sorted, without hidden ones; empty if there is no such folder.

    Raises:
        UserError: the folder may not be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and not entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:
        raise UserError(f"{folder} may not be read; check its permissions") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, stripped, without empty ones.

    Raises:
        UserError: it cannot be read or is not text.
    """
    return [line for line in (line.strip() for line in read_text(path).splitlines()) if line]


def read_text(path: Path) -> str:
    """A text file's contents, without the byte order mark that Windows' editors put there.

    Raises:
        UserError: it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the data folder") from None
    except PermissionError:
        raise UserError(f"{path} may not be read; check its permissions") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
