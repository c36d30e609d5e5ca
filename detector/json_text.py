"""JSON that any text survives: written as UTF-8, readable, and equal when it is read back."""

from __future__ import annotations

import json
import re
from typing import Any

# No encoding can write lone surrogates (Python has them for the bytes of file names that are no UTF-8); DEL and C1 are
# control characters to a terminal, and the last ones turn the direction of writing. JSON has escapes for all of them.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """``value`` as JSON, letters as they are; ``json.loads`` gives back every string, lone surrogates included.

    Raises:
        ValueError: NaN or infinity in ``value``; JSON has neither.
        TypeError: something that JSON has no form for.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
