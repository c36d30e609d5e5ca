"""How long PyTorch's threads keep a core while they wait for one another.

By libgomp's default a thread that has done its part of a layer turns in a loop 300,000 times, some milliseconds, until
the others have done theirs. On a machine that does nothing else that is quickest; where another program wants the cores
it keeps the thread that is waited for from being run, and two detectors at once take far more than twice as long
(``benchmarks/busy_machine.md``). A few turns and then sleep cost little and end that.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

TURNS = "GOMP_SPINCOUNT"
# What people may have set to decide for themselves (libgomp's manual, OMP_WAIT_POLICY and GOMP_SPINCOUNT).
DECIDED = (TURNS, "OMP_WAIT_POLICY")
FEW = "3000"


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have threads sleep after a few turns, unless the environment says how they shall wait.

    libgomp reads the variable once, when PyTorch is imported, so this comes before that; processes that this one starts
    inherit it. Builds of PyTorch with another OpenMP, as on macOS, do not know it.
    """
    if not any(variable in environment for variable in DECIDED):
        environment[TURNS] = FEW
