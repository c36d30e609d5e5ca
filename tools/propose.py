"""``detector propose`` from a checkout, installed or not: ``python tools/propose.py photos/ --out runs/proposals``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detector.cli import main

if __name__ == "__main__":
    main(["propose", *sys.argv[1:]])
