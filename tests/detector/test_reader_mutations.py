"""Every reader on files made faulty at random: a value or an error of one line, nothing else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from reader_cases import READERS

SEEDS = {"data": 160, "model": 80, "image": 80, "detections": 80, "truth": 80}
"""Mutated files by the first word of the reader's name; 40 of others."""
MANY = {"run npz": 320}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name.split()[0] in ("image", "data") else pytest.mark.slow) for name in READERS],
)
def test_reader(name: str, tmp_path: Path) -> None:
    """Both outcomes must occur, so that the mutations are neither too harsh nor too mild."""
    attempt = READERS[name](tmp_path)
    seeds = MANY.get(name, SEEDS.get(name.split()[0], 40))
    outcomes = Counter(isinstance(attempt(seed), str) for seed in range(seeds))
    assert min(outcomes[True], outcomes[False]) > 0, outcomes
