"""The commands that the campaign kills and starves of disk space, and what must hold of what they leave.

All work on the same made-up images. A command's results are known by name, and a run that nothing disturbed, its
reference, says what must be in them: a result that is there at all, after whatever happened, is byte for byte the
reference's.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

ROOT = Path(__file__).resolve().parents[1]
NET = {"norm": "batch", "width": 0.1, "stem": "stride4", "dropout": 0.0}
SCHEDULE = {"rate": 0.05, "warmup": 0.1}
SEARCH = {"selective_search": {"color_spaces": ["HSV"], "k": [50.0], "min_box_side": 8}, "search_side": None}
COMMON: dict[str, Any] = {"schedule": SCHEDULE, "steps": 12, "average": 0.5, "statistics_batches": 1}
CROP = {"size": 32, "context_pad": 2}
RECIPES: dict[str, dict[str, Any]] = {
    "shared": {
        "task": "shared",
        "init": "random",
        "training": {
            **COMMON,
            "net": {**NET, "num_outputs": 2},
            "maps": {"image_side": 64, "levels": 2, "region_side": 32},
            "batch_size": 32,
            "regions": 16,
            "dropout": 0.0,
            "multibox": {"channels": 8, "count": 2},
        },
        "val_images": 2,
        "model": {"licence": "MIT", "proposals": {**SEARCH, "max_proposals": 40}},
    },
    "finetune": {
        "task": "regions",
        "init": "random",
        "training": {
            **COMMON,
            "net": NET,
            "crop": CROP,
            "batch_size": 16,
            "regions": "windows",
            "head_rate": 10.0,
            "sampling": {"foreground": 0.25},
        },
        "model": {"licence": "MIT", "proposals": SEARCH},
    },
    "svm": {"task": "svm"},
}
RECIPES["multibox"] = {
    **RECIPES["shared"],
    "training": {**RECIPES["shared"]["training"], "only_multibox": True, "statistics_batches": 0},
}
RECIPES["ensemble"] = {"task": "ensemble", "base": RECIPES["finetune"], "members": [{}, {}]}
ALONE = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
TEMPORARY = (".unfinished", ".tmp")
LOOK = 0.01
"""Seconds between two looks at a process and its files."""


@dataclass
class Command:
    """One command of the campaign; it runs in a folder of its own and writes only there.

    Attributes:
        name: of the row in the table. words: after ``detector``. results: patterns of the files that it makes and that
            depend on nothing but its input. kept: patterns of files that a later run takes over as they are.
        checkpoint, finished: of a training: the file to go on from, and the one that ends the run.
        expected: content of each result in the reference. changes: how often its files changed. seconds: it took.
        peak: bytes that it needed at most.
    """

    name: str
    words: list[str]
    results: tuple[str, ...]
    kept: tuple[str, ...] = ()
    checkpoint: str = ""
    finished: str = ""
    expected: dict[str, bytes] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    changes: int = 0
    seconds: float = 0.0
    peak: int = 0

    @property
    def goes_on(self) -> bool:
        """Whether it may be run again where it has finished."""
        return bool(self.kept or self.finished)

    def found(self, folder: Path) -> dict[str, Path]:
        """Its results in ``folder`` by relative path, those under a temporary name left out."""
        return named(folder, self.results)

    def damaged(self, folder: Path, whole: bool) -> str:
        """What is wrong with the results in ``folder``, of which none may be missing if it is ``whole``; or nothing."""
        found = self.found(folder)
        if whole and (missing := sorted(self.expected.keys() - found.keys())):
            return f"{missing[0]} is missing"
        for name, path in found.items():
            if path.read_bytes() != self.expected.get(name):
                return f"{name} is not what an undisturbed run writes"
        if whole and steps_logged(folder) != self.steps:
            return "log.csv has other steps than an undisturbed run's"
        left = (path.relative_to(folder).as_posix() for path in folder.rglob("*.tmp"))
        if whole and (rest := [name for name in left if ".unfinished/" not in name]):  # whose folders can be cleaned
            return f"{rest[0]} is left over"
        return ""


def named(folder: Path, patterns: tuple[str, ...]) -> dict[str, Path]:
    """Files in ``folder`` of these patterns, by relative path; none in or under a temporary name."""
    found = {}
    for pattern in patterns:
        for path in folder.glob(pattern):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not any(ending in name for ending in TEMPORARY):
                found[name] = path
    return found


def steps_logged(folder: Path) -> list[str]:
    """The first column of the log of a training, if there is one."""
    path = folder / "model" / "log.csv"
    return [row[0] if row else "" for row in csv.reader(path.open(newline=""))] if path.exists() else []


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, None if it had to be ended after the time limit, and what it said."""

    code: int | None
    said: str

    @property
    def errors(self) -> list[str]:
        """The lines that tell an error."""
        return [line for line in self.said.splitlines() if line.startswith("error: ")]

    @property
    def unexpected(self) -> bool:
        """Whether it was an error that nothing foresaw, or no line at all."""
        died = self.code is not None and self.code < 0
        return died or "Traceback" in self.said or any(line.startswith("error: unexpected ") for line in self.errors)

    @property
    def last(self) -> str:
        """The last line, with the exit code."""
        return f"exit code {self.code}: " + (self.said.strip().splitlines() or ["nothing said"])[-1][:300]


class Started:
    """A command that runs in ``folder``, in a process group of its own; what it says goes to a file elsewhere."""

    def __init__(self, command: Command, folder: Path, limit: float) -> None:
        self.limit = limit
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by wait)
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "detector", *command.words],
            cwd=folder,
            env={**os.environ, **ALONE, "TMPDIR": str(folder.parent)},
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait(self, look: Callable[[], bool] = lambda: False) -> Ended:
        """Until it ends, or ``look`` or the time limit says that it is enough: then it and all its processes die."""
        late = False
        while self.process.poll() is None:
            late = time.monotonic() - self.begun > self.limit
            if late or look():
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                break
            time.sleep(LOOK)
        self.output.seek(0)
        said = self.output.read().decode(errors="replace")
        self.output.close()
        return Ended(None if late else self.process.returncode, said)


def snapshot(folder: Path) -> dict[Path, int]:
    """The room, in bytes, that every file in ``folder`` takes."""
    sizes = {}
    for root, _, files in os.walk(folder):  # which passes over folders that are gone meanwhile
        for path in (Path(root, name) for name in files):
            with suppress(OSError):
                sizes[path] = path.stat().st_blocks * 512
    return sizes


class Watch:
    """Counts the changes of the files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state, self.changes, self.peak = folder, snapshot(folder), 0, 0

    def look(self) -> int:
        """The changes so far, as far as looking every few milliseconds shows them."""
        now = snapshot(self.folder)
        if now != self.state:
            self.state, self.changes = now, self.changes + 1
            self.peak = max(self.peak, sum(now.values()))
        return self.changes


@dataclass(frozen=True)
class Workshop:
    """The commands with their references, a folder for cases, and the time limit of a run."""

    root: Path
    commands: list[Command]
    limit: float


@contextmanager
def workshop(limit: float) -> Iterator[Workshop]:
    """Make the data, and run each command undisturbed; later ones use what earlier ones made."""
    from red_squares import red_squares

    with tempfile.TemporaryDirectory(prefix="robustness-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        data = red_squares(root / "data", train=8, val=4)
        for recipe, content in RECIPES.items():
            (root / f"{recipe}.yaml").write_text(yaml.safe_dump(content))
        commands = commands_on(root, data)
        for command in commands:
            refer(command, root, limit)
        (root / "cases").mkdir()
        yield Workshop(root, commands, limit)


def commands_on(root: Path, data: Path) -> list[Command]:
    """All of them, in an order in which none needs a later one's reference."""
    images, model, stores = str(data / "train" / "images"), str(root / "train shared" / "model"), "proposals"
    here = ["--proposals", stores, "--device", "cpu", "--checkpoint-minutes", "0", "--resume", "auto"]

    def train(name: str, *more: str, made: tuple[str, ...], kept: tuple[str, ...] = (), **rest: str) -> Command:
        words = ["train", str(data), "--config", str(root / f"{name}.yaml"), "--out", "model", *here, *more]
        return Command(f"train {name}", words, made, (f"{stores}/**/*.proposals", *kept), **rest)

    weights = ("model/member-0.safetensors",)
    ends = {"checkpoint": "model/checkpoint.pt", "finished": "model/model.yaml"}
    detected = ("found/detections.*", "found/images.coco.json", "found/pictures/*")
    words = ["--device", "cpu"]
    report = ["report", str(root / "evaluate" / "measured"), "--out", "page.html"]
    return [
        train("shared", made=(*weights, "model/multibox.safetensors"), **ends),
        train("finetune", made=weights, **ends),
        train("svm", "--init", str(root / "train finetune" / "model"), made=weights, finished=ends["finished"]),
        train(
            "ensemble",
            made=(*weights, "model/member-1.safetensors", "model/member-*/member-0.safetensors"),
            kept=("model/member-*/member-0.safetensors",),
            finished=ends["finished"],
        ),
        train(
            "multibox",
            "--init",
            str(root / "train shared" / "model"),
            made=(*weights, "model/multibox.safetensors"),
            finished=ends["finished"],
        ),
        Command(
            "propose",
            ["propose", images, "--out", "store", "--preset", "fast", "--workers", "2"],
            ("store/**/*.proposals",),
            ("store/**/*.proposals",),
        ),
        Command(
            "detect",
            ["detect", images, "--model", model, "--out", "found", "--format", "coco", "--format", "csv", *words],
            detected,
        ),
        Command(
            "evaluate",
            ["evaluate", "--data", str(data), "--split", "val", "--model", model, "--out", "measured", "--report",
             "--bootstrap", "20", *words],
            ("measured/detections.jsonl", "measured/per_class.csv"),
        ),
        Command("report", report, ("page.html",)),
        Command("report, pictures in a folder", [*report, "--pictures-in-folder"],
                ("page.html", "page-pictures/*")),
    ]  # fmt: skip


def refer(command: Command, root: Path, limit: float) -> None:
    """Run the command undisturbed and note what comes of it."""
    folder = root / command.name
    folder.mkdir()
    watch, begun = Watch(folder), time.monotonic()
    ended = Started(command, folder, limit).wait(lambda: watch.look() < 0)
    if ended.code != 0:
        raise SystemExit(f"{command.name}: fails undisturbed; {ended.said}")
    command.seconds = time.monotonic() - begun
    command.changes, command.peak, command.steps = watch.changes, watch.peak, steps_logged(folder)
    command.expected = {name: path.read_bytes() for name, path in command.found(folder).items()}
    print(
        f"{command.name}: {len(command.expected)} results, {command.seconds:.0f} s, {command.changes} changes, "
        f"{command.peak / 1e3:.0f} kB",
        file=sys.stderr,
        flush=True,
    )


def went_on(command: Command, folder: Path, limit: float) -> tuple[str, str]:
    """Run the command again in ``folder``, where a run was disturbed: "ok", or the fault and what it is."""
    kept = {name: path.stat() for name, path in named(folder, command.kept).items()}
    step = checkpoint_step(command, folder)
    if step == "damaged":
        return "loss", "the checkpoint is damaged"
    ended = Started(command, folder, limit).wait()
    if ended.code is None:
        return "hang", f"run again: longer than {limit:.0f} s"
    if ended.unexpected:
        return "crash", f"run again: {ended.last}"
    if ended.code != 0:
        return "loss", f"run again: {ended.last}"
    if step and not re.search(rf"going on from step {step}\b", ended.said):
        return "loss", f"it did not go on from its checkpoint of step {step}"
    if fault := command.damaged(folder, whole=True):
        return "loss", f"run again: {fault}"
    for name, before in kept.items():
        after = (folder / name).stat()
        if (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns):
            return "loss", f"{name} was made twice"
    return cleaned(command, folder)


def checkpoint_step(command: Command, folder: Path) -> str:
    """The step of the checkpoint that the next run goes on from, "damaged", or nothing where there is none."""
    from detector.training.run_files import load_checkpoint
    from proposals.errors import UserError

    path = folder / command.checkpoint
    if not command.checkpoint or not path.exists() or (folder / command.finished).exists():
        return ""
    try:
        return str(load_checkpoint(path)["step"])
    except UserError:
        return "damaged"


def cleaned(command: Command, folder: Path) -> tuple[str, str]:
    """Remove what the disturbed run left, as ``detector clean`` does; the results must outlive it."""
    from detector.runs.leftovers import find_leftovers, remove

    for leftover in find_leftovers(folder):
        if leftover.alive or not remove(leftover):
            return "loss", f"{leftover.path.name} cannot be cleaned away"
    fault = command.damaged(folder, whole=True)
    return ("loss", f"cleaned: {fault}") if fault else ("ok", "")
