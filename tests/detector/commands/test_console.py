"""What the verbs do around their work."""

from __future__ import annotations

import gc

import pytest

from detector.commands.console import nothing_is_garbage
from proposals.errors import UserError


def test_garbage_is_looked_for_again_after_the_imports_whatever_happened() -> None:
    with nothing_is_garbage():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(UserError, match="no such model"), nothing_is_garbage():
        raise UserError("no such model")
    assert gc.isenabled()
    gc.unfreeze()
