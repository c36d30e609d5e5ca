"""The command line in this process, and what its run folders hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from detector.cli import main


def run(*arguments: object) -> int:
    """The exit code of ``detector`` with these ``arguments``."""
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def record_of(folder: str | Path) -> dict[str, Any]:
    """The ``config.yaml`` of a run folder."""
    record: dict[str, Any] = yaml.safe_load((Path(folder) / "config.yaml").read_text(encoding="utf-8"))
    return record


def lines_of(folder: str | Path) -> list[dict[str, Any]]:
    """The images in the ``detections.jsonl`` of a run folder."""
    text = (Path(folder) / "detections.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def tree(folder: str | Path) -> set[str]:
    """The files in a folder and below it."""
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}
