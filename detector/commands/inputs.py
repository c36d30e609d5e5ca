"""What the user names on the command line, as images.

====================  =================================================================================================
named                 taken as
====================  =================================================================================================
an image              itself
a folder              the images and videos below it, sorted, hidden ones left out; its other files are passed over
a pattern (``*?[]``)  the images and videos that match (``**`` goes into folders), for shells that do not expand it
a list (``.txt``)     the inputs in it, one per line, relative to the list's folder; ``#`` begins a comment line
a video               its frames
a ``.tar``            the images in it; of a ``.parquet`` those of its column ``image``; both are passed over in folders
``-``                 standard input: the bytes of one image, or a list as above, relative to the current folder
====================  =================================================================================================

Standard input is a list when it is UTF-8 text without zero bytes, which no image from a camera or a browser is.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.commands.found_inputs import FoundInputs, Names, sorted_on_disk
from detector.images.archives import SUFFIXES as ARCHIVE_SUFFIXES
from detector.images.archives import encoded_images
from detector.images.read import MAX_PIXELS, ORDINARY_PIXELS, read_image_reduced
from detector.images.read import SUFFIXES as PICTURE_SUFFIXES
from detector.images.video import SUFFIXES as VIDEO_SUFFIXES
from detector.images.video import Video
from detector.shown import json_text
from proposals.errors import UserError

LIST_SUFFIXES = frozenset((".txt",))
STDIN = "-"

OnFault = Callable[[UserError], None]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image to detect in.

    Attributes:
        image_id: unique in a run; names the output files, ``/`` between folders.
        path: what the user named. shown: what messages call it: the path, with the frame's number in a video.
        image: ``(H, W, 3)`` uint8 RGB. image_size: (height, width) of the image itself, of which ``image`` may be a
            smaller copy.
    """

    image_id: str
    path: str
    shown: str
    image: NDArray[np.uint8]
    image_size: tuple[int, int]


class Source(Protocol):
    """Where images to detect in come from."""

    def identity(self) -> list[Any]:
        """What tells it from others: its id, its path and what else decides its images; of plain types."""

    def frames(self, *, reduced: bool = False) -> Iterator[Frame]:
        """Its images; UserError where one cannot be read."""


@dataclass(frozen=True, slots=True)
class PictureInput:
    """One image: a file, or the bytes of one (standard input)."""

    image_id: str
    path: str
    data: bytes | None = field(default=None, repr=False)

    def identity(self) -> list[Any]:
        return [self.image_id, self.path, None if self.data is None else hashlib.sha256(self.data).hexdigest()]

    def count(self) -> int:
        """The number of frames."""
        return 1

    def frames(self, *, reduced: bool = False) -> Iterator[Frame]:
        """The image; UserError where it cannot be read.

        Args:
            reduced: a very large one may be smaller, see :func:`detector.images.read.read_image_reduced`.
        """
        ordinary = ORDINARY_PIXELS if reduced else MAX_PIXELS
        source = self.path if self.data is None else self.data
        image, size = read_image_reduced(source, name=self.path, ordinary=ordinary)
        yield Frame(self.image_id, self.path, self.path, image, size)


@dataclass(frozen=True, slots=True)
class VideoInput:
    """Every ``step``-th frame of a video, from its first; ids are ``<image_id>/<frame number>``.

    Its own id keeps the file's ending, so that ``clip.mp4/000000`` is no image of a folder ``clip`` beside it.
    """

    image_id: str
    path: str
    step: int = 1

    def identity(self) -> list[Any]:
        return [self.image_id, self.path, self.step]

    def count(self) -> int:
        """The number of frames as the file's header tells it, which may be wrong; at least 1, even if it is damaged."""
        try:
            announced = Video(self.path).announced()
        except UserError:  # told of when its frames are asked for
            return 1
        return max(1, -(-announced // self.step))

    def frames(self, *, reduced: bool = False) -> Iterator[Frame]:
        """The frames in full, decoded as they are asked for; UserError as for ``Video.frames``."""
        for number, image in Video(self.path).frames(self.step):
            yield Frame(
                f"{self.image_id}/{number:06d}",
                self.path,
                f"{self.path} #{number}",
                image,
                (image.shape[0], image.shape[1]),
            )


@dataclass(frozen=True, slots=True)
class ArchiveInput:
    """The images in a tar or Parquet file; ids are ``<image_id>/<name>``, with ``-2``... where a name comes again.

    Its own id keeps the file's ending, as a video's does.
    """

    image_id: str
    path: str

    def identity(self) -> list[Any]:
        return [self.image_id, self.path]

    def count(self) -> int | None:
        """Not known before all of the file is read."""
        return None

    def frames(self, *, reduced: bool = False) -> Iterator[Frame]:
        """The images; at the end a UserError where some, which were passed over, or the file could not be read."""
        ordinary = ORDINARY_PIXELS if reduced else MAX_PIXELS
        ids = Names()
        faults: list[str] = []
        for name, data in encoded_images(self.path):
            shown = f"{self.path} {name}"
            try:
                image, size = read_image_reduced(data, name=shown, ordinary=ordinary)
            except UserError as fault:
                faults.append(str(fault))
                continue
            yield Frame(ids.unique(f"{self.image_id}/{name}"), self.path, shown, image, size)
        if faults:
            raise UserError(f"{self.path}: {len(faults)} of its images could not be read; the first: {faults[0]}")


Input = PictureInput | VideoInput | ArchiveInput


def find_inputs(named: Sequence[str], on_fault: OnFault, *, video_step: int = 1) -> FoundInputs[Input]:
    """The images and videos that ``named`` stands for, in that order, each once.

    Args:
        named: files, folders, patterns, lists, videos or ``-``; see the module's table.
        on_fault: called with each fault (a wrong path, an empty folder...); it may raise it, or return to go on.
        video_step: every so many frames of a video.
    """
    search = _Search(on_fault, video_step)
    for name in named:
        search.add(name)
    return search.inputs


def digest_of(inputs: Sequence[Source]) -> str:
    """SHA-256 of which inputs they are, in their order."""
    digest = hashlib.sha256()
    for source in inputs:
        digest.update(json_text(source.identity()).encode())
    return digest.hexdigest()


class _Search:
    """The inputs found so far: each file once, with an id of its own.

    A list may have a million lines: each costs one call of the system, and the folders' real paths are kept.
    """

    def __init__(self, on_fault: OnFault, video_step: int) -> None:
        self.inputs: FoundInputs[Input] = FoundInputs()
        self.seen, self.ids = Names(), Names()
        self.on_fault = on_fault
        self.video_step = video_step
        self.real_folder = lru_cache(1024)(os.path.realpath)

    def add(self, name: str, base: Path | None = None, named_in: str = "") -> None:
        """One input; ``base`` and ``named_in`` are those of the list that names it."""
        try:
            if name == STDIN and not named_in:
                self._add_stdin()
                return
            path = os.path.expanduser(name)  # noqa: PTH111 - Path would drop a leading ./ from what the user named
            path = path if base is None else os.path.join(base, path)  # noqa: PTH118 - likewise
            mode = _file_mode(path)
            if mode is None:
                self._add_pattern(path, named_in)
            elif stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and os.path.isdir(path)):  # noqa: PTH112 - as below
                self._add_folder(path)
            elif _suffix(path) in LIST_SUFFIXES:
                if named_in:
                    raise UserError(f"{path}: a list may not name another list ({named_in}); name its images there")
                self._add_list(_lines(path), Path(path).parent, path)
            else:
                self._add_file(path, _stem(path), stat.S_ISLNK(mode))
        except UserError as fault:
            self.on_fault(fault)

    def _add_stdin(self) -> None:
        data = sys.stdin.buffer.read()
        if not data:
            raise UserError("standard input is empty; pipe in an image or a list of paths")
        if b"\0" not in data:
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError:
                pass
            else:
                self._add_list(io.StringIO(text), None, "standard input")
                return
        self.inputs.append(PictureInput(self.ids.unique("stdin"), "standard input", data))

    def _add_list(self, lines: Iterable[str], base: Path | None, list_name: str) -> None:
        empty = True
        for number, line in enumerate(map(str.strip, lines), 1):
            if line and not line.startswith("#"):
                self.add(line, base, f"line {number} of {list_name}")
                empty = False
        if empty:
            raise UserError(f"{list_name}: names no images; write one path per line")

    def _add_pattern(self, path: str, named_in: str) -> None:
        if not glob.has_magic(path):
            raise UserError(f"{path}: no such file or folder{f' ({named_in})' if named_in else ''}; check the path")
        empty = True
        for match in _natural_order(glob.iglob(path, recursive=True)):  # noqa: PTH207 - a Path for each is slow
            if _is_wanted(match, True):
                self._add_file(match, _stem(match))
                empty = False
        if empty:
            raise UserError(f"{path}: no images or videos match this pattern; check it, or name a folder")

    def _add_folder(self, folder: str) -> None:
        empty = True
        for path in _walk(folder, self.on_fault):
            below = path.removeprefix(folder).lstrip(os.sep)
            name = below[: len(below) - len(_suffix(path))].replace(os.sep, "/")
            self._add_file(path, name, os.path.islink(path))  # noqa: PTH114 - as below
            empty = False
        if empty:
            raise UserError(f"{folder}: no images or videos in this folder; name another")

    def _add_file(self, path: str, image_id: str, link: bool = True) -> None:
        folder, name = os.path.split(path)
        real = os.path.realpath(path) if link else os.path.join(self.real_folder(folder), name)  # noqa: PTH118
        if not self.seen.add(real):
            return
        suffix = _suffix(path)
        if suffix in VIDEO_SUFFIXES:
            self.inputs.append(VideoInput(self.ids.unique(image_id + suffix), path, self.video_step))
        elif suffix in ARCHIVE_SUFFIXES:
            self.inputs.append(ArchiveInput(self.ids.unique(image_id + suffix), path))
        else:
            self.inputs.append(PictureInput(self.ids.unique(image_id), path))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122 - a Path for each of a million is slow


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]  # noqa: PTH119, PTH122 - likewise


def _file_mode(path: str) -> int | None:
    """The file's mode, or its link's; None where there is no file; UserError where it may not be known."""
    try:
        mode = os.lstat(path).st_mode
        return mode if not stat.S_ISLNK(mode) or os.stat(path) else None  # noqa: PTH116 - as the user wrote it
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise UserError(f"{path}: cannot be opened: {getattr(error, 'strerror', error)}") from None


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123 - as the user wrote it
            yield from file
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}; check its permissions") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a list of images: not UTF-8 text; write one path per line") from None


def _walk(folder: str, on_fault: OnFault) -> Iterator[str]:
    """The images and videos in ``folder`` and below; a folder below that cannot be read is a fault of its own.

    Links to folders are not followed, so that a loop of them ends.
    """
    try:
        with os.scandir(folder) as entries:
            shown = (entry for entry in entries if not entry.name.startswith("."))
            names = _natural_order(entry.name + os.sep * entry.is_dir(follow_symlinks=False) for entry in shown)
    except OSError as error:
        raise UserError(f"{folder}: cannot read this folder: {error.strerror}; check its permissions") from None
    for name in names:
        path = os.path.join(folder, name)  # noqa: PTH118 - a Path for each of a million is slow
        if name.endswith(os.sep):
            try:
                yield from _walk(path.removesuffix(os.sep), on_fault)
            except UserError as fault:
                on_fault(fault)
        elif _is_wanted(path):
            yield path


def _is_wanted(path: str, archives: bool = False) -> bool:
    suffix = _suffix(path)
    known = suffix in PICTURE_SUFFIXES or suffix in VIDEO_SUFFIXES or (archives and suffix in ARCHIVE_SUFFIXES)
    return known and os.path.isfile(path)  # noqa: PTH113 - likewise


def _natural_order(names: Iterable[str]) -> Iterator[str]:
    """``names`` sorted so that ``2.jpg`` is before ``10.jpg``."""
    return sorted_on_disk((_natural(name.removesuffix(os.sep)), name) for name in names)


def _natural(name: str) -> bytes:
    """Sorting key: the text of ``name``, with a zero byte and the number of digits before each number."""
    parts = []
    for part in re.split(r"(\d+)", name):
        if part.isdecimal():
            digits = str(int(part)).encode()
            parts.append(bytes((0, min(len(digits), 255))) + digits)
        else:
            parts.append(os.fsencode(part))
    return b"".join(parts)
