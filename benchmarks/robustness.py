"""What damaged files, kills at any moment and full disks do to the toolkit: a campaign by a fixed seed.

Command:  .venv/bin/python benchmarks/robustness.py        (or: make benchmark ONLY=robustness)
          --only fuzz|kills|disk ... for a part of it; --files, --kills, --full-disks N for other counts

- Damaged files: every reader (images, data sets, detections, models, recipes, runs) is given files with bytes, words or
  values replaced. Each is to be read or refused with one line, within a time limit.
- Kills: detect, propose, train, evaluate and report are ended by ``kill -9`` with all their processes, at a random
  change of the files they write. No damaged file may pass for a whole one; the same command, run again, must finish,
  keep what was finished, and give byte for byte what an undisturbed run gives, a training's weights included.
- Full disks: the same commands on a file system (a tmpfs, which takes root to mount) with too little room. They must
  end with one line and exit code 1, leave no damaged file that passes for whole, and finish once there is room.

All data are made up, small, and in temporary folders. The table counts what the cases came to: "ok" and "one-line
error" are as they should be; a crash is a traceback or an unexpected error, a loss is work that is gone or damaged. The
exit code is 1 if there was a crash, a hang or a loss; each is told on standard error. Ctrl-C prints the counts so far.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time

from robustness_table import Outcomes

PARTS = ("fuzz", "kills", "disk")


def main() -> None:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--files", type=int, default=6000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--full-disks", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="cases at a time")
    parser.add_argument("--read-limit", type=float, default=60.0, metavar="S", help="for one damaged file")
    parser.add_argument("--run-limit", type=float, default=900.0, metavar="S", help="for one command")
    arguments = parser.parse_args()
    outcomes, begun = Outcomes(), time.monotonic()
    try:
        campaign(arguments, outcomes)
    except KeyboardInterrupt:
        print("stopped; what was counted until now:", file=sys.stderr)
    minutes = (time.monotonic() - begun) / 60
    print(f"{platform.machine()}, {os.cpu_count()} cores, {minutes:.0f} minutes\n\n{outcomes.table()}")
    sys.exit(1 if outcomes.faults else 0)


def campaign(arguments: argparse.Namespace, outcomes: Outcomes) -> None:
    """The parts that were asked for, one after another."""
    if "fuzz" in arguments.only:
        from robustness_fuzz import fuzz

        fuzz(arguments.files, arguments.read_limit, arguments.workers, outcomes)
    if {"kills", "disk"} & set(arguments.only):
        from robustness_runs import workshop

        with workshop(arguments.run_limit) as runs:
            if "kills" in arguments.only:
                from robustness_kills import kill_all

                kill_all(runs, arguments.kills, arguments.seed, arguments.workers, outcomes)
            if "disk" in arguments.only:
                from robustness_disks import fill_all

                fill_all(runs, arguments.full_disks, arguments.seed, arguments.workers, outcomes)


if __name__ == "__main__":
    main()
