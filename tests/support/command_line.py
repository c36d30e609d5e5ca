"""The command line in this process."""

from __future__ import annotations

import pytest

from detector.cli import main


def run(*arguments: object) -> int:
    """The exit code of ``detector`` with these ``arguments``."""
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code
