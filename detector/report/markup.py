"""HTML that is safe by construction: every text is escaped unless it was built here."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from detector.strict_json import json_text

_VOID = {"meta", "input", "link", "br", "img"}


class Markup(str):
    """A piece of HTML that needs no escaping any more."""

    __slots__ = ()


Child = str | int | Iterable["Child"] | None


def markup(child: Child) -> Markup:
    """``child`` as HTML: Markup as it is, any other text escaped, sequences one after another, ``None`` as nothing."""
    if isinstance(child, Markup):
        return child
    if child is None:
        return Markup("")
    if isinstance(child, str | int):
        return Markup(escape(str(child)))
    return Markup("".join(markup(c) for c in child))


def element(tag: str, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """``<tag attributes>children</tag>``.

    An attribute's trailing underscore is dropped (``class_``), other underscores become hyphens; ``True`` writes the
    bare name, ``False`` and ``None`` leave it out.
    """
    parts = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        key = name.rstrip("_").replace("_", "-")
        parts.append(key if value is True else f'{key}="{escape(str(value))}"')
    head = Markup(f"<{' '.join(parts)}>")
    return head if tag in _VOID else Markup(f"{head}{markup(children)}</{tag}>")


def json_block(identifier: str, data: Any) -> Markup:
    """``data`` as a JSON script element that no text within can close.

    Raises:
        ValueError: NaN or infinity in ``data``; JSON has neither.
    """
    text = json_text(data, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(f'<script type="application/json" id="{escape(identifier)}">{text}</script>')
