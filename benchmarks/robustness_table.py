"""The counts of a campaign, by part and outcome."""

from __future__ import annotations

import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

OUTCOMES = {"ok": "ok", "error": "one-line error", "crash": "crash", "hang": "hang", "loss": "loss"}
FAULTS = ("crash", "hang", "loss")


class Outcomes:
    """Counts of what the cases came to; threads may add to it."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.not_run: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, part: str, outcome: str, detail: str = "") -> None:
        """One case of ``part`` came to ``outcome``; a fault's ``detail`` is told at once."""
        with self._lock:
            self.counts[part][outcome] += 1
            if outcome in FAULTS:
                print(f"{outcome}: {part}: {detail}", file=sys.stderr, flush=True)

    @property
    def faults(self) -> int:
        """Cases that came to a crash, a hang or a loss."""
        return sum(counts[name] for counts in self.counts.values() for name in FAULTS)

    def table(self) -> str:
        """As markdown."""
        lines = [f"| part | cases | {' | '.join(OUTCOMES.values())} |", "|---|" + "---|" * (1 + len(OUTCOMES))]
        total: Counter[str] = Counter()
        for part, counts in self.counts.items():
            total += counts
            lines.append(_row(part, counts))
        lines += [f"| {part} | not run: {why} |{' |' * len(OUTCOMES)}" for part, why in self.not_run.items()]
        return "\n".join([*lines, _row("all", total)])


def run_each(case: Callable[[int], None], count: int, workers: int) -> None:
    """Call ``case`` with 0 to ``count - 1``, ``workers`` at a time; after Ctrl-C those that run are the last."""
    pool = ThreadPoolExecutor(workers)
    try:
        list(pool.map(case, range(count)))
    finally:
        pool.shutdown(cancel_futures=True)


def _row(part: str, counts: Counter[str]) -> str:
    cells = [f"{sum(counts.values()):,}", *(f"{counts[name]:,}" for name in OUTCOMES)]
    return f"| {part} | {' | '.join(cells)} |"
