"""One line says what is wrong with a settings file."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from detector.strict_yaml import read_settings
from proposals.errors import UserError


class Settings(BaseModel):
    """As the toolkit's own: nothing unknown is taken."""

    model_config = ConfigDict(extra="forbid")

    rate: float
    steps: int


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("rate: 1\nstepps: 2\n", "stepps: unknown key (and 1 more fault)"),
        ("stepps: 2\n", "stepps: unknown key (and 2 more faults)"),
        ("rate: 1\n", "steps: Field required"),
        ("rate: fast\nsteps: 2\n", "rate: Input should be a valid number, unable to parse string as a number"),
        ("- 1\n", "should hold settings as 'key: value' lines"),
    ],
)
def test_the_first_fault_and_how_many_more(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_settings(Settings, path)
    assert str(caught.value) == f"{path}: {fault}"


def test_settings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("rate: 0.5\nsteps: 2\n")
    assert read_settings(Settings, path) == Settings(rate=0.5, steps=2)
