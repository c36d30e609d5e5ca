"""``detector train`` from a checkout, installed or not: ``python tools/train.py photos/ --out my-model``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detector.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
