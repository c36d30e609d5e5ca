"""Make a small labelled data set of scikit-image's sample photographs: ``python tools/sample_photos.py FOLDER``.

``FOLDER/train`` and ``FOLDER/val`` get collages with a VOC XML file beside each, as labelling tools write them: seven
classes (astronaut, cat, coffee cup, rocket, camera, coin, eye). Nothing is downloaded; the same arguments give the same
files.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from example_report import CLASS_NAMES, example_data_set

from detector.data.voc_xml import voc_xml


def make_photos(folder: Path, train: int, val: int) -> None:
    """Write ``train`` and ``val`` images with their annotations to the folders of these names in ``folder``."""
    for seed, (split, count) in enumerate({"train": train, "val": val}.items()):
        for record in example_data_set(folder / split, count, seed):
            record.path.with_suffix(".xml").write_bytes(voc_xml(record, CLASS_NAMES))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder to make")
    parser.add_argument("--train", type=int, default=200, metavar="N", help="images to train on (default 200)")
    parser.add_argument("--val", type=int, default=60, metavar="N", help="images to measure on (default 60)")
    given = parser.parse_args()
    if given.folder.exists():
        sys.exit(f"error: {given.folder} is there already; choose a folder that does not exist")
    make_photos(given.folder, given.train, given.val)
    print(f"{given.folder}: {given.train} images to train on, {given.val} to measure on")
