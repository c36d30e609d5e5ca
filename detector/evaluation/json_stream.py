"""A list of JSON objects read piece by piece, so that a file of any size needs little memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from proposals.errors import UserError

_CHUNK = 1 << 20
# An entry of a results file has a few numbers, at most a mask; one beyond this is a broken file, not a big one.
_LONGEST_ENTRY = 64 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_BETWEEN = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")


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
    text = file.read(_CHUNK)
    position = _skip(_SPACE, text, 0)
    if text[position : position + 1] != "[":
        kind = "an object, perhaps an annotation file" if text[position : position + 1] == "{" else "something else"
        raise UserError(f"{path}: a results file is a JSON list of detections, but this is {kind}")
    position = _skip(_SPACE, text, position + 1)
    decode = json.JSONDecoder().raw_decode
    number = 0
    while True:
        text, position = _at_least(file, text, position, 1)
        if position >= len(text):
            raise _cut_off(path, number)
        if text[position] == "]" and number == 0:
            break
        if text[position] != "{":
            raise UserError(f"{path}: entry {number + 1} is not an object but {text[position : position + 20]!r}")
        while True:
            try:
                entry, end = decode(text, position)
                break
            except json.JSONDecodeError as error:
                more = file.read(_CHUNK)
                if not more:
                    # A fault well before the end of the text is not the end's fault.
                    if error.pos < len(text) - 1 and not error.msg.startswith("Unterminated"):
                        raise UserError(f"{path}: entry {number + 1} is not JSON: {error.msg}") from None
                    raise _cut_off(path, number) from None
                text, position = text[position:] + more, 0
                if len(text) > _LONGEST_ENTRY:
                    raise UserError(f"{path}: entry {number + 1} is not JSON: {error.msg}") from None
        number += 1
        yield entry
        text, position = _at_least(file, text, end, 1)
        position = _skip(_SPACE, text, position)
        text, position = _at_least(file, text, position, 1)
        if text[position : position + 1] == "]":
            break
        after = _BETWEEN.match(text, position)
        if after is None:
            if position >= len(text):
                raise _cut_off(path, number)
            raise UserError(f"{path}: after entry {number} comes {text[position : position + 20]!r}, not a comma")
        position = after.end()
        text, position = _at_least(file, text, position, 1)
        position = _skip(_SPACE, text, position)
    rest = text[position + 1 :] + file.read(_CHUNK)
    if rest.strip():
        raise UserError(f"{path}: after the list comes {rest.strip()[:20]!r}; two files in one?")


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _at_least(file: TextIO, text: str, position: int, n: int) -> tuple[str, int]:
    """``text`` from ``position`` on with at least ``n`` characters that are not space, where the file has them."""
    while len(text) - position < n or text[position:].isspace():
        more = file.read(_CHUNK)
        if not more:
            break
        text, position = text[position:] + more, 0
        position = _skip(_SPACE, text, position)
    return text, position


def _cut_off(path: Path, number: int) -> UserError:
    return UserError(f"{path}: ends after entry {number}, in the middle of the list; it is truncated, copy it again")
