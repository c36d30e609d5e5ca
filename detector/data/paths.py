"""Names and files of a data set, and nothing outside it."""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple
from urllib.parse import unquote

from proposals.errors import UserError

SPECIAL = "no regular file (a pipe, a device or a broken link)"

_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")


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


def tails(name: str) -> list[str]:
    """What ``name`` could be in another folder: its last parts, most of them first, at last the file's own name.

    Annotations often keep where a picture lay on the machine that wrote them: ``/home/me/cats/a.jpg``,
    ``https://host/cats/a.jpg?size=2``, ``../cats/a.jpg`` or ``data/cats/a.jpg`` are then found as ``cats/a.jpg`` or
    ``a.jpg``. The result has no ``..``, drives or hosts, and may be empty.
    """
    text = name.replace("\\", "/")
    texts = [text]
    if "%" in text or "?" in text or "://" in text:
        address, _, query = text.partition("?")
        texts += [unquote(address), unquote(query.rpartition("=")[2])]
    found: dict[str, None] = {}
    for text in texts:
        parts = [part for part in posixpath.normpath(text).split("/") if part not in ("", ".", "..")]
        found |= dict.fromkeys("/".join(parts[start:]) for start in range(len(parts)))
    return [tail for tail in found if "\0" not in tail]


def relative_prefix(root: Path, folder: Path) -> str:
    """What to put before names in ``folder`` to make them relative to ``root``: ``""`` or ``JPEGImages/``."""
    relative = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.absolute().as_posix()
    return "" if relative == "." else f"{relative}/"


class Entries(NamedTuple):
    """What a folder holds, by name, sorted, without hidden ones.

    ``files`` has everything that is no folder, ``special`` what of it is no regular file: a pipe, a device, a broken
    link. Links count as what they lead to.
    """

    files: tuple[str, ...] = ()
    special: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


_NOT_THERE = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL))


def list_entries(folder: Path) -> Entries:
    """What ``folder`` holds; nothing if there is no such folder.

    Raises:
        UserError: the folder may not be read.
    """
    files: list[str] = []
    special: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    folder_entry, regular = entry.is_dir(), entry.is_file()
                except OSError:  # a link that leads in a circle
                    folder_entry, regular = False, False
                (folders if folder_entry else files).append(entry.name)
                if not folder_entry and not regular:
                    special.append(entry.name)
    except PermissionError:
        raise UserError(f"{folder} may not be read; check its permissions") from None
    except ValueError:  # a zero byte, or text that no file name can hold
        return Entries()
    except OSError as error:
        if error.errno in _NOT_THERE:
            return Entries()
        raise
    return Entries(tuple(sorted(files)), tuple(sorted(special)), tuple(sorted(folders)))


def list_names(folder: Path) -> list[str]:
    """Names of the files in ``folder``, sorted, without hidden ones; empty if there is no such folder.

    Raises:
        UserError: the folder may not be read.
    """
    return list(list_entries(folder).files)


def read_bytes(path: Path) -> bytes:
    """A regular file's contents.

    Raises:
        UserError: it is missing, cannot be read, or is a pipe or a device, which could last for ever.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise UserError(f"{path} is {SPECIAL}; put the file itself there")
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the data folder") from None
    except PermissionError:
        raise UserError(f"{path} may not be read; check its permissions") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def read_text(path: Path) -> str:
    """A text file's contents, without the byte order mark that Windows' editors put there.

    Raises:
        UserError: as :func:`read_bytes`, or it is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, stripped, without empty ones.

    Raises:
        UserError: it cannot be read or is not text.
    """
    return [line for line in (line.strip() for line in read_text(path).splitlines()) if line]


def whole_number(text: str) -> int | None:
    """The number that a few ASCII digits are; None for anything else."""
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else None
