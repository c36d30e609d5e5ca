"""A list of JSON objects read piece by piece, so that a file of any size needs little memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from detector.shown import JSON_FAULTS, brief, json_fault
from proposals.errors import UserError

_CHUNK = 1 << 20
# An entry of a results file has a few numbers, at most a mask; one beyond this is a broken file, not a big one.
_LONGEST_ENTRY = 64 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODE = json.JSONDecoder().raw_decode


def stream_objects(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON file that is one list of objects, in order.

    Raises:
        UserError: not readable, not UTF-8, not a list of objects, or cut off; the message says after which entry.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _objects(file, path)
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a JSON file: not UTF-8 text") from error


def _objects(file: TextIO, path: Path) -> Iterator[dict[str, Any]]:
    text, position, number, before = "", 0, 0, ""  # what has been read, how far, the entries, and the sign before
    while True:
        text, position = _next(file, text, position)
        sign = text[position : position + 1]
        words = brief(text[position : position + 20])
        if not before and sign != "[":
            kind = "an object, perhaps an annotation file" if sign == "{" else "something else"
            raise UserError(f"{path}: a results file is a JSON list of detections, but this is {kind}")
        if before == "]":
            if sign:
                raise UserError(f"{path}: after the list comes {words}; two files in one?")
            return
        if not sign:
            raise _cut_off(path, number)
        if sign == "{" and before in ("[", ","):
            entry, text, position = _entry(file, text, position, path, number)
            number, before = number + 1, "}"
            yield entry
            continue
        if before == "," or (before == "[" and sign != "]"):
            raise UserError(f"{path}: entry {number + 1} is not an object but {words}")
        if before == "}" and sign not in (",", "]"):
            raise UserError(f"{path}: after entry {number} comes {words}, not a comma")
        before, position = sign, position + 1


def _entry(file: TextIO, text: str, position: int, path: Path, number: int) -> tuple[dict[str, Any], str, int]:
    """The object that starts at ``position``, reading on until it is whole; then the text and position after it."""
    while True:
        try:
            entry, end = _DECODE(text, position)
            return entry, text, end
        except json.JSONDecodeError as error:
            more = file.read(_CHUNK)
            # A fault well before the end of the text is not the end's fault.
            at_the_end = error.pos >= len(text) - 1 or error.msg.startswith("Unterminated")
            if not more and at_the_end:
                raise _cut_off(path, number) from None
            text, position = text[position:] + more, 0
            if not more or len(text) > _LONGEST_ENTRY:
                raise UserError(f"{path}: entry {number + 1} is not JSON: {error.msg}") from None
        except JSON_FAULTS as error:
            raise UserError(f"{path}: entry {number + 1} is not a detection: {json_fault(error)}") from None


def _next(file: TextIO, text: str, position: int) -> tuple[str, int]:
    """The text and the position in it of the next character that is not space; the text's end if there is none."""
    while True:
        match = _SPACE.match(text, position)
        position = match.end() if match else position
        if position < len(text):
            return text, position
        text, position = file.read(_CHUNK), 0
        if not text:
            return text, position


def _cut_off(path: Path, number: int) -> UserError:
    return UserError(f"{path}: ends after entry {number}, in the middle of the list; it is truncated, copy it again")
