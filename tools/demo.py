"""Find objects in photographs that come with scikit-image: ``python tools/demo.py`` (or ``make demo``).

Nothing is downloaded. The results go to a new folder, ``demo/1``, ``demo/2``, ...
"""

import itertools
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detector.cli import main

ROOT = Path(__file__).resolve().parents[1]
PHOTOGRAPHS = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg")


def demo_arguments() -> list[str]:
    """The arguments of ``detector`` for the demonstration."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        sys.exit("error: scikit-image is not installed, and its photographs are what this shows: make demo")
    data = Path(spec.origin).parent / "data"
    out = next(path for number in itertools.count(1) if not (path := ROOT / "demo" / str(number)).exists())
    return ["detect", *(str(data / name) for name in PHOTOGRAPHS), "--proposal-pictures", "--out", str(out)]


if __name__ == "__main__":
    arguments = demo_arguments()
    print(shlex.join(["detector", *arguments]), flush=True)
    main(arguments)
