"""Find objects in photographs that come with scikit-image and matplotlib: ``python tools/demo.py`` (or ``make demo``).

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
# Package, folder in it, and its photographs: an astronaut, a cat, a man with a camera, a motorbike, an admiral.
PHOTOGRAPHS = (
    ("skimage", "data", ("astronaut.png", "chelsea.png", "camera.png", "motorcycle_left.png")),
    ("matplotlib", "mpl-data/sample_data", ("grace_hopper.jpg",)),
)


def photographs() -> list[Path]:
    """The files of the photographs; the program ends where a package is missing."""
    files = []
    for package, folder, names in PHOTOGRAPHS:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            sys.exit(f"error: {package} is not installed, and its photographs are what this shows: make demo")
        files += [Path(spec.origin).parent / folder / name for name in names]
    return files


def demo_arguments() -> list[str]:
    """The arguments of ``detector`` for the demonstration."""
    out = next(path for number in itertools.count(1) if not (path := ROOT / "demo" / str(number)).exists())
    return ["detect", *map(str, photographs()), "--proposal-pictures", "--out", str(out)]


if __name__ == "__main__":
    arguments = demo_arguments()
    print(shlex.join(["detector", *arguments]), flush=True)
    main(arguments)
