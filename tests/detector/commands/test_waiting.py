"""Threads that wait for one another let go of their core soon."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from detector.commands.waiting import DECIDED, FEW, TURNS, wait_briefly

# Runs a verb that needs nothing, then loads PyTorch as any other verb would.
COMMAND_THEN_TORCH = """
from detector.cli import main
try:
    main(["--version"])
except SystemExit:
    import torch
"""


def test_threads_wait_briefly() -> None:
    environment = {"HOME": "/h"}
    wait_briefly(environment)
    assert environment == {"HOME": "/h", TURNS: FEW}


@pytest.mark.parametrize("variable", DECIDED)
def test_what_people_have_set_stays(variable: str) -> None:
    environment = {variable: "as they like"}
    wait_briefly(environment)
    assert environment == {variable: "as they like"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="libgomp is what PyTorch computes with on Linux")
@pytest.mark.parametrize(("given", "turns"), [({}, FEW), ({TURNS: "77"}, "77")])
def test_the_command_sets_it_before_pytorch_reads_it(given: dict[str, str], turns: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in DECIDED}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND_THEN_TORCH],
        env={**environment, **given, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    # Each OpenMP that is loaded tells its settings; PyTorch's own may not be the only one.
    told = re.findall(rf"{TURNS} = '(\d+)'", done.stderr)
    assert told
    assert set(told) == {turns}
