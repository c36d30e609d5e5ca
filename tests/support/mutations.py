"""Files made faulty at random, by a seed, as strangers' tools and bad disks make them."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proposals.errors import UserError

# Stand in a tree for what json.dumps cannot write.
_RAW = {'"@digits@"': "7" * 5000, '"@deep@"': "[" * 2000 + "]" * 2000, '"@float@"': "1e999"}
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.0, 1.5, 1e300, -1e-300, 10**30, 2**63, float("nan"), "@float@", "@digits@", "@deep@",
    "", "1", "x", "\x1b[31mred\x07", "[/]", "a\nb", "\ud800", "\udce9", "\x00", "../../x", "y" * 20_000, "2020-13-45",
    [], [[]], [1], ["x"], [1, 2, 3, 4], {}, {"x": 1}, {"id": {}},
)  # fmt: skip
_TOKENS = (
    b"", b"{", b"}", b"[", b"]", b'"', b",", b":", b"-", b"\x00", b"\xff", b"\xed\xa0\x80", b"\n", b"\r", b"\\ud800",
    b"nan", b"1e999", b"7" * 5000, b"[" * 2000, b"- " * 1000, b"&a *a", b"!!int x", b"!!bool 7", b"!!timestamp x",
    b"? [a]\n: b\n", b"2020-13-45", b"yes", b"\x1b[31m", b"<<: ", b"%", b"@", b"0x", b"1_0", b"'" , b"9" * 19,
)  # fmt: skip

PIECES = (
    b"", b"\0", b"nan", b"-1", b"1e999", b"1e300", b"<", b">", b'"', b"'", b"[", b"{}", b"null", b"../", b"\xff", b"\n",
    b"9" * 400, b"9" * 5000, b" ", b"\t1", b" -1", b"\xed\xa0\x80", b"\xc3\xa4", b"a\xcc\x88", b"true", b"~", b"yes",
    b"2020-13-45", b"&a", b"*a", b"<<: ", b"? [a]\n: ", b"!!binary ", b"!!python/name:os.system ", b"#", b": ", b"=",
    b"/dev/zero", b"/", b"C:\\", b"https://h/", b"%00", b"[" * 3000, b"x" * 5000, b"A.PNG", b"<!DOCTYPE a>", b"&#1;",
    b'<?xml version="1.0" encoding="x"?>', b"\xef\xbb\xbf", b"0.5", b"1.0", b"-0", b"\xc2\xb2", b"\xd9\xa3",
)  # fmt: skip
"""What takes the place of a word or a span in a text file."""


def mutated_bytes(data: bytes, seed: int) -> bytes:
    """``data`` with one to three of its bytes, spans or ends replaced."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((0, 1, 1, 4, 30)))
        kind = rng.randrange(5)
        if kind == 0:
            data = data[:start]
        elif kind == 1:
            data = data[:start] + data[end:]
        elif kind == 2:
            data = data[:start] + bytes([rng.randrange(256)]) + data[end:]
        elif kind == 3:
            data = data[:end] + data[start:]
        else:
            data = data[:start] + rng.choice(_TOKENS) + data[end:]
    return data


def mutated_words(data: bytes, seed: int) -> bytes:
    """``data`` with one of its words replaced."""
    rng = random.Random(seed)
    words = list(re.finditer(rb"[\w.]+", data))
    if not words:
        return data
    word = rng.choice(words)
    return data[: word.start()] + rng.choice(PIECES) + data[word.end() :]


def mutated_tree(tree: Any, seed: int) -> Any:
    """A copy of JSON values with one or two of them replaced by something hostile, left out or there twice."""
    rng = random.Random(seed)
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 2)):
        places = list(_places(tree))
        if not places:
            return rng.choice(HOSTILE)
        parent, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif kind == 1:
            parent[rng.choice(("id", "\x1b", "\ud800", ""))] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(rng.choice(HOSTILE))
    return tree


def json_text(tree: Any) -> str:
    """``tree`` as JSON in ASCII, with the numbers and depths that ``json`` would not write."""
    text = json.dumps(tree)
    for mark, raw in _RAW.items():
        text = text.replace(mark, raw)
    return text


def _places(tree: Any) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield tree, key
        yield from _places(value)


def value_or_error(read: Callable[[], Any], *files: Path) -> Any:
    """What ``read`` returns, or the message of its UserError, which must be one line fit for a terminal.

    Args:
        files: the message names one of them, if any are given.
    """
    try:
        return read()
    except UserError as error:
        message = str(error)
        assert len(message.splitlines()) == 1, message[:300]
        assert message.isprintable(), ascii(message[:300])
        assert len(message) < 1000, message[:300]
        assert not files or any(str(file) in message for file in files), message
        return message
