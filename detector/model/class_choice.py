"""Which of a model's classes people mean by a name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from proposals.errors import UserError

MOST_SUGGESTIONS = 6


def chosen_labels(
    wanted: str | Sequence[str], names: Sequence[str], keys: Sequence[str], file: str | Path = "model.yaml"
) -> tuple[int, ...]:
    """The labels, ascending, of the classes that ``wanted`` names.

    A class is named as in ``names``, by its id in the training data (``keys``), or by its name in other capitals where
    only one class is called so.

    Args:
        wanted: one name or several. names, keys: of the K classes, by label. file: where people can read the names.

    Raises:
        UserError: nothing is wanted, or a name is no class's; it says which ones come near.
    """
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if not wanted:
        raise UserError("classes: name at least one")
    return tuple(sorted({_label(name, names, keys, file) for name in wanted}))


def _label(wanted: str, names: Sequence[str], keys: Sequence[str], file: str | Path) -> int:
    for known in (names, keys):
        if wanted in known:
            return known.index(wanted)
    folded = [name.casefold() for name in names]
    same = [label for label, name in enumerate(folded) if name == wanted.strip().casefold()]
    if len(same) == 1:
        return same[0]
    near = [names[label] for label in same] or _near(wanted.strip().casefold(), names, folded)
    shown = ", ".join(repr(name) for name in near)
    hint = f"did you mean {shown}?" if near else f"its {len(names)} names stand in {file}"
    raise UserError(f"the model has no class {wanted!r}; {hint}")


def _near(wanted: str, names: Sequence[str], folded: Sequence[str]) -> list[str]:
    """Names that hold ``wanted`` as a word, or as a part, or that are spelled much like it; best first."""
    words = [i for i, name in enumerate(folded) if wanted in name.split()]
    parts = [i for i, name in enumerate(folded) if wanted and wanted in name]
    alike = [folded.index(name) for name in get_close_matches(wanted, folded, MOST_SUGGESTIONS, 0.7)]
    return [names[i] for i in dict.fromkeys([*words, *parts, *alike])][:MOST_SUGGESTIONS]
