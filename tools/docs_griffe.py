"""For mkdocstrings: docstrings as its parser wants them (an extension of Griffe).

Sphinx roles (:class:`~a.b.C`) become the name alone, as code. Where one line of ``Args`` or ``Attributes`` describes
several names, each gets a line of its own.
"""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`(?:~[\w.]*?(?=\w+`))?([^`]+)`")
SECTION = re.compile(r"^(?:Args|Attributes):\n(?:[ ]{4}.*\n?|\n(?=[ ]{4}))+", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites the docstrings of a package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called once for each package."""
        rewrite(pkg)


def rewrite(obj: griffe.Object) -> None:
    """The docstring of ``obj``, and of everything in it."""
    members = [member for member in obj.members.values() if not member.is_alias]
    if obj.docstring is not None:
        text = ROLE.sub(r"`\1`", obj.docstring.value)
        names = [parameter.name for parameter in getattr(obj, "parameters", ())]
        names += [member.name for member in members if member.is_attribute]
        obj.docstring.value = SECTION.sub(lambda match: one_name_a_line(match[0], names), text)
    for member in members:
        rewrite(member)


def one_name_a_line(section: str, names: list[str]) -> str:
    """``section`` with a new line before each of ``names`` that is described in the middle of one."""
    if not names:
        return section
    known = "|".join(map(re.escape, names))
    return re.sub(rf"(?<=\.)\s+((?:(?:{known}), )*(?:{known}): )", r"\n    \1", section)
