"""Many images: what it costs to find them, and to merge shards; Ray against one process, two workers against one.

    python benchmarks/scale.py lists FOLDER --images 1000 10000 100000     # files are made in FOLDER, and stay
    python benchmarks/scale.py ray FOLDER --images 200                     # photographs of FOLDER; needs ray
    python benchmarks/scale.py workers FOLDER --images 200                 # likewise, without

Each measurement runs in a process of its own. Processor seconds are those of all its processes; "MB" is the peak of one
process above what its libraries take. The images of ``lists`` are hard links, those of a list 1,000 in a folder, and
its shards are made up: four, with two detections an image.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from detector.cli import main as detector
from detector.commands.detection_files import JSONL_FILE  # with all that merging imports
from detector.commands.inputs import digest_of, find_inputs
from detector.runs.shards import Job, Part, Shard

LINKS = 60_000  # of one file; ext4 allows 65,000
SHARDS = 4
LINE = {"box": [1.5, 2.5, 100.25, 200.125], "score": 0.7313373, "label": 14, "class_name": "person"}


def make_list(folder: Path, images: int) -> Path:
    """A list of so many images below ``folder``, which are made where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"list-{images}.txt"
    with path.open("w") as lines:
        for i in range(images):
            target = folder / f"one-{i // LINKS}.jpg"
            name = f"d{i // 1000:04d}/{i:07d}.jpg"
            if i % LINKS == 0 and not target.exists():
                Image.new("RGB", (16, 16)).save(target)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if not (folder / name).exists():
                os.link(target, folder / name)
            lines.write(name + "\n")
    return path


def make_folder(folder: Path, images: int) -> Path:
    """A folder of so many images, side by side."""
    path = folder / f"folder-{images}"
    if not path.exists():
        path.mkdir(parents=True)
        for i in range(images):
            target = folder / f"of-{images}-{i // LINKS}.jpg"
            if i % LINKS == 0 and not target.exists():
                Image.new("RGB", (16, 16)).save(target)
            os.link(target, path / f"{i}.jpg")
    return path


def make_shards(folder: Path, images: int) -> list[Path]:
    """Folders of made-up shards of ``images`` images."""
    parts = []
    names = [f"class {i}" for i in range(20)]
    settings = {"class_names": names, "class_keys": names}
    for index in range(1, SHARDS + 1):
        part = folder / f"part-{images}-{index}"
        part.mkdir(parents=True, exist_ok=True)
        shard = Shard(index, SHARDS)
        with (part / JSONL_FILE).open("w") as file:
            for i in shard.block(images):
                record = {"image_id": f"{i:07d}", "path": f"{i:07d}.jpg", "width": 500, "height": 375}
                file.write(json.dumps({**record, "detections": [LINE, LINE]}) + "\n")
        job = Job("detect", images, "", settings, {"formats": ["jsonl"]}, 0, shard)
        Part(part, job, [], (part / JSONL_FILE).stat().st_size).write()
        parts.append(part)
    return parts


def run_one(what: str, folder: Path, images: int) -> dict[str, float]:
    """Processor seconds and MB of one measurement in this process."""
    words: list[str | Path] = []
    if what == "find":
        path = make_list(folder, images)
    elif what == "folder":
        path = make_folder(folder, images)
    else:
        shutil.rmtree(folder / "merged", ignore_errors=True)
        words = ["merge", *make_shards(folder, images), "--out", folder / "merged"]
    before, busy = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    if what in ("find", "folder"):
        found = find_inputs([str(path)], print)
        assert len(found) == images
        digest_of(found)
    else:
        with contextlib.suppress(SystemExit):
            detector([str(word) for word in words])
        assert (folder / "merged/config.yaml").is_file()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"cpu": time.process_time() - busy, "mb": (after - before) / 1024}


def lists(folder: Path, counts: list[int]) -> None:
    """The table of lists and merges."""
    print("| images | a list: processor seconds | MB | a folder | MB | merge | MB |\n|---|---|---|---|---|---|---|")
    for images in counts:
        cells = []
        for what in ("find", "folder", "merge"):
            command = [sys.executable, __file__, what, str(folder), "--images", str(images)]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            row = json.loads(out.splitlines()[-1])
            cells.append(f"{row['cpu']:.2f} | {row['mb']:.0f}")
        print(f"| {images:,} | {' | '.join(cells)} |", flush=True)


MODEL = Path(__file__).resolve().parents[1] / "detector/models/small"
VARIANTS = {
    "ray": {"one process": [], "Ray": ["--engine", "ray"]},
    "workers": {"one worker": ["--workers", "1"], "two workers": ["--workers", "2"]},
}


def in_turns(folder: Path, images: int, variants: dict[str, list[str]], repeats: int = 3) -> None:
    """Seconds, and processor seconds, of ``detect`` with the options of each of ``variants``; the bytes are equal."""
    photographs = sorted(str(path.resolve()) for path in folder.glob("*.jpg"))[:images]
    scratch = Path("scale-turns")
    scratch.mkdir()
    (scratch / "list.txt").write_text("\n".join(photographs) + "\n")
    for turn in range(repeats):
        written = []
        for number, (name, options) in enumerate(variants.items()):
            out = scratch / f"{turn}-{number}"
            words = ["detect", scratch / "list.txt", "--model", MODEL, "--device", "cpu", "--no-pictures"]
            words += [*options, "--out", out]
            begun, busy = time.perf_counter(), os.times()
            subprocess.run([sys.executable, "-m", "detector", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
            seconds, spent = time.perf_counter() - begun, os.times()
            cpu = spent.children_user + spent.children_system - busy.children_user - busy.children_system
            print(f"{name}: {seconds:.1f} s, {cpu:.1f} processor seconds", flush=True)
            written.append((out / JSONL_FILE).read_bytes())
        assert written[0] == written[1]
    shutil.rmtree(scratch)


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["lists", "ray", "workers", "find", "folder", "merge"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000])
    arguments = parser.parse_args()
    if arguments.what == "lists":
        lists(arguments.folder, arguments.images)
    elif arguments.what in VARIANTS:
        in_turns(arguments.folder, arguments.images[0], VARIANTS[arguments.what])
    else:
        print(json.dumps(run_one(arguments.what, arguments.folder, arguments.images[0])))


if __name__ == "__main__":
    main()
