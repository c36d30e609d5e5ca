"""One line says what is wrong with a settings file."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from detector.strict_yaml import load_yaml_text, read_settings
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


BOMB = "\n".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}' if i else 'lol'] * 10)}]" for i in range(12))
MERGED = "\n".join(f"x{i}: &x{i} {{a{i}: 1, <<: [{', '.join([f'*x{i - 1}'] * 10 if i else [])}]}}" for i in range(12))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (BOMB, "its aliases expand to too much"),
        (MERGED, "its aliases expand to too much"),
        ("rate: &a [*a]\n", "an alias stands for itself"),
        ("rate: 1\nrate: 2\n", "the key 'rate' stands twice"),
        ("? [a]\n: 1\n", "found unhashable key"),
        ("rate: 2023-13-45\n", "month must be in 1..12"),
        ("rate: " + "9" * 5000 + "\n", "integer string conversion"),
        ("rate: " + "[" * 600, "nested too deep"),
        ('rate: "\\UFFFFFFFF"\n', "not valid YAML"),
    ],
)
def test_yaml_that_nothing_should_be_made_of(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="not valid YAML") as caught:
        read_settings(Settings, path)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_stays_text() -> None:
    text = "a: [yes, 2020-01-01, 1e3, 0x1f, ~]\n1: {on: off}\n"
    assert load_yaml_text(text, "x") == {"a": ["yes", "2020-01-01", "1e3", "0x1f", "~"], "1": {"on": "off"}}


def bomb(levels: int) -> str:
    """Lists of ten of the level below: ten to the power of ``levels`` values in a few lines."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (bomb(9), r" line \d not valid YAML \(its aliases expand to too much\)"),
        ("rate: &a [*a]\n", r" line 1 not valid YAML \(an alias stands for itself\)"),
        ("rate: " + "[" * 600, r" not valid YAML \(nested too deep\)"),
        ("- " * 2000, r" not valid YAML \(nested too deep\)"),
        ("? [a, b]\n: 1\n", r" line 1 not valid YAML \(found unhashable key\)"),
        ("? {a: 1}\n: 1\n", r" line 1 not valid YAML \(found unhashable key\)"),
        ("rate: 2020-13-45\n", r" not valid YAML \(month must be in 1..12\)"),
        ("rate: " + "7" * 5000, r" not valid YAML \(Exceeds the limit"),
        ("rate: " + "7" * 30, r" line 1 not valid YAML \(the number 7{30} is too large\)"),
        ("rate: .inf\n", r" line 1 not valid YAML \('.inf' is not a finite number\)"),
        ("rate: .nan\n", r" line 1 not valid YAML \('.nan' is not a finite number\)"),
        ("rate: !!bool 7\n", " not valid YAML"),
        ("rate: !!timestamp x\n", " not valid YAML"),
        ("rate: !!int x\n", " not valid YAML"),
        ("rate: !!python/object:os.system x\n", " line 1 not valid YAML"),
        ("rate: *nothing\n", r" line 1 not valid YAML \(found undefined alias 'nothing'\)"),
        ("rate: '\x1b[31m'\n", " not valid YAML"),
        ("rate: 1\nrate: 2\n", r" line 2 not valid YAML \(the key 'rate' stands twice\)"),
        ("rate: 2020-01-01\nsteps: 1\n", " rate: Input should be a valid number"),
        ("rate: 1\nsteps: yes please\n", " steps: Input should be a valid integer"),
        ('"\\e[31m": 1\n', r" \\x1b\[31m: unknown key"),
        ('"\\ud800": 1\n', " settings: Input should be a valid string, unable to parse"),
        ("1: 2\n", " 1: Keys should be strings"),
        ("null\n", " should hold settings as 'key: value' lines"),
        ("", " should hold settings as 'key: value' lines"),
    ],
)
def test_every_fault_of_yaml_is_one_line(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=fault) as caught:
        read_settings(Settings, path)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert message.isprintable()


def test_a_few_aliases_are_read(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("rate: &a 2\nsteps: *a\n")
    assert read_settings(Settings, path) == Settings(rate=2, steps=2)
