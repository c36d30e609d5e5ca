"""What the user names on the command line, as pictures.

====================  =================================================================================================
named                 taken as
====================  =================================================================================================
a picture             itself
a folder              the pictures and videos below it, sorted, hidden ones left out; its other files are passed over
a pattern (``*?[]``)  the pictures and videos that match (``**`` goes into folders), for shells that do not expand it
a list (``.txt``)     the inputs in it, one per line, relative to the list's folder; ``#`` begins a comment line
a video               its frames
``-``                 standard input: the bytes of one picture, or a list as above, relative to the current folder
====================  =================================================================================================

Standard input is a list when it is UTF-8 text without zero bytes, which no picture from a camera or a browser is.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.images import SUFFIXES as PICTURE_SUFFIXES
from detector.images import read_image
from proposals.errors import UserError

VIDEO_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"))
LIST_SUFFIXES = frozenset((".txt",))
STDIN = "-"

OnFault = Callable[[UserError], None]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture to detect in.

    Attributes:
        image_id: unique in a run; names the output files, ``/`` between folders.
        path: what the user named. shown: what messages call it: the path, with the frame's number in a video.
        image: ``(H, W, 3)`` uint8 RGB.
    """

    image_id: str
    path: str
    shown: str
    image: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PictureInput:
    """One picture: a file, or the bytes of one (standard input)."""

    image_id: str
    path: str
    data: bytes | None = field(default=None, repr=False)

    def count(self) -> int:
        """The number of frames."""
        return 1

    def frames(self) -> Iterator[Frame]:
        """The picture; UserError where it cannot be read."""
        image = read_image(self.path) if self.data is None else read_image(self.data, name=self.path)
        yield Frame(self.image_id, self.path, self.path, image)


@dataclass(frozen=True, slots=True)
class VideoInput:
    """Every ``step``-th frame of a video, from its first; ids are ``<image_id>/<frame number>``."""

    image_id: str
    path: str
    step: int = 1

    def count(self) -> int:
        """The number of frames as the file's header tells it, which may be wrong; at least 1, even if it is damaged."""
        import cv2

        try:
            capture = self._open()
        except UserError:  # told of when its frames are asked for
            return 1
        try:
            return max(1, -(-int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) // self.step))
        finally:
            capture.release()

    def frames(self) -> Iterator[Frame]:
        """The frames, decoded as they are asked for; UserError where the file holds none that can be decoded."""
        capture = self._open()
        number = 0
        try:
            while capture.grab():
                if number % self.step == 0:
                    good, image = capture.retrieve()
                    if not good:
                        break
                    rgb = np.ascontiguousarray(image[:, :, ::-1])
                    yield Frame(f"{self.image_id}/{number:06d}", self.path, f"{self.path} #{number}", rgb)
                number += 1
        finally:
            capture.release()
        if number == 0:
            raise UserError(f"{self.path}: no frame of this video can be decoded; convert it to H.264 in .mp4")

    def _open(self) -> Any:
        """The video, opened quietly: OpenCV's own complaints would stand beside our one line."""
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        import cv2

        try:
            with Path(self.path).open("rb"):
                pass
        except OSError as error:
            raise UserError(f"{self.path}: cannot read: {error.strerror}") from None
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        capture = cv2.VideoCapture(self.path)
        if not capture.isOpened():
            raise UserError(f"{self.path}: not a video that can be decoded; convert it to H.264 in .mp4")
        return capture


Input = PictureInput | VideoInput


def find_inputs(
    named: Sequence[str], on_fault: OnFault, *, video_step: int = 1, stdin: bytes | None = None
) -> list[Input]:
    """The pictures and videos that ``named`` stands for, in that order, each once.

    Args:
        named: files, folders, patterns, lists, videos or ``-``; see the module's table.
        on_fault: called with each fault (a wrong path, an empty folder...); it may raise it, or return to go on.
        video_step: every so many frames of a video.
        stdin: what standard input held, for tests; None: read it when ``-`` is named.
    """
    search = _Search(on_fault, video_step, stdin)
    for name in named:
        search.add(name)
    return search.inputs


class _Search:
    """The inputs found so far; ``seen`` keeps each file once, ``ids`` keeps the ids different."""

    def __init__(self, on_fault: OnFault, video_step: int, stdin: bytes | None) -> None:
        self.inputs: list[Input] = []
        self.on_fault = on_fault
        self.video_step = video_step
        self.stdin = stdin
        self.seen: set[str] = set()
        self.ids: set[str] = set()

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
            elif stat.S_ISDIR(mode):
                self._add_folder(path)
            elif Path(path).suffix.lower() in LIST_SUFFIXES:
                if named_in:
                    raise UserError(f"{path}: a list may not name another list ({named_in})")
                self._add_list(_read_text(path), Path(path).parent, path)
            else:
                self._add_file(path, Path(path).stem)
        except UserError as fault:
            self.on_fault(fault)

    def _add_stdin(self) -> None:
        data = sys.stdin.buffer.read() if self.stdin is None else self.stdin
        if not data:
            raise UserError("standard input is empty; pipe in a picture or a list of paths")
        if b"\0" not in data:
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError:
                pass
            else:
                self._add_list(text, None, "standard input")
                return
        self.inputs.append(PictureInput(self._unique("stdin"), "standard input", data))

    def _add_list(self, text: str, base: Path | None, list_name: str) -> None:
        lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
        entries = [(number, line) for number, line in lines if line and not line.startswith("#")]
        if not entries:
            raise UserError(f"{list_name}: names no pictures; write one path per line")
        for number, line in entries:
            self.add(line, base, f"line {number} of {list_name}")

    def _add_pattern(self, path: str, named_in: str) -> None:
        if not glob.has_magic(path):
            raise UserError(f"{path}: no such file or folder{f' ({named_in})' if named_in else ''}")
        found = [match for match in sorted(glob.glob(path, recursive=True), key=_natural) if _is_wanted(match)]  # noqa: PTH207
        if not found:
            raise UserError(f"{path}: no pictures match this pattern")
        for match in found:
            self._add_file(match, Path(match).stem)

    def _add_folder(self, folder: str) -> None:
        found = list(_walk(folder, self.on_fault))
        if not found:
            raise UserError(f"{folder}: no pictures in this folder")
        for path in found:
            relative = Path(path).relative_to(folder).with_suffix("")
            self._add_file(path, relative.as_posix())

    def _add_file(self, path: str, image_id: str) -> None:
        real = os.path.realpath(path)
        if real in self.seen:
            return
        self.seen.add(real)
        if Path(path).suffix.lower() in VIDEO_SUFFIXES:
            self.inputs.append(VideoInput(self._unique(image_id), path, self.video_step))
        else:
            self.inputs.append(PictureInput(self._unique(image_id), path))

    def _unique(self, image_id: str) -> str:
        """``image_id``, or with ``-2``, ``-3``... behind it where two pictures bear one name."""
        candidate, number = image_id, 1
        while candidate in self.ids:
            number += 1
            candidate = f"{image_id}-{number}"
        self.ids.add(candidate)
        return candidate


def _file_mode(path: str) -> int | None:
    """The file's mode, None where there is none; UserError where it may not be known."""
    try:
        return os.stat(path).st_mode  # noqa: PTH116 - the path stays as the user wrote it
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise UserError(f"{path}: cannot be opened: {getattr(error, 'strerror', error)}") from None


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a list of pictures: not UTF-8 text") from None


def _walk(folder: str, on_fault: OnFault) -> Iterator[str]:
    """The pictures and videos in ``folder`` and below; a folder below that cannot be read is a fault of its own.

    Links to folders are not followed, so that a loop of them ends.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: _natural(entry.name))
    except OSError as error:
        raise UserError(f"{folder}: cannot read this folder: {error.strerror}") from None
    for entry in found:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            try:
                yield from _walk(entry.path, on_fault)
            except UserError as fault:
                on_fault(fault)
        elif _is_wanted(entry.path):
            yield entry.path


def _is_wanted(path: str) -> bool:
    suffix = Path(path).suffix.lower()
    return (suffix in PICTURE_SUFFIXES or suffix in VIDEO_SUFFIXES) and Path(path).is_file()


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sorting key that puts ``2.jpg`` before ``10.jpg``."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
