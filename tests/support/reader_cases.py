"""Every reader with a file of its kind made faulty by a seed: for tests, and for the campaign in benchmarks/.

A factory in ``READERS`` takes an empty folder and returns an attempt: given a seed, it damages a file, reads it and
uses what was read. It returns the message of a one-line error, or a value that is no text; anything else is a fault.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from data_cases import DATA_READERS, PICTURE_READERS, Attempt
from mutations import json_text, mutated_bytes, mutated_tree, value_or_error
from torch import nn

from detector.commands import detection_files
from detector.commands.evaluate_data import first_of_run, read_evaluate_settings
from detector.commands.evaluate_job import summary
from detector.evaluation.analysis_types import Evaluation
from detector.evaluation.assemble import assemble, score
from detector.evaluation.image_names import joined_by_file
from detector.evaluation.read_files import read_detections, read_image_numbers
from detector.evaluation.read_truth import CocoTruth, read_coco_truth
from detector.evaluation.tables import DetectionTable
from detector.experiment.measure import read_arrays, write_arrays
from detector.experiment.recipe import read_experiment
from detector.model.config import BUNDLED_MODEL, MODEL_FILE, read_model_config
from detector.nets.weights import load_into, read_weights, save_weights
from detector.recipes.region import EnsembleRecipe, read_recipe
from detector.report.plots import read_log
from detector.report.write import write_report
from detector.runs.shards import SHARD_FILE, Job, Part, Shard
from detector.strict_yaml import read_settings
from detector.training.run_files import load_checkpoint, save_checkpoint
from proposals.errors import UserError
from proposals.store import ProposalStore, read_proposals
from proposals.types import Proposals

ROOT = Path(__file__).resolve().parents[2]
TRUTH: dict[str, Any] = {
    "images": [{"id": i, "file_name": f"{name}.jpg", "width": 64, "height": 48} for i, name in ((1, "a"), (2, "b"))],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 20, 20], "area": 400, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 7, "bbox": [4, 5, 20, 20], "area": 400, "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}],
}
RESULTS = [
    {"image_id": 1, "category_id": 1, "bbox": [1, 2, 20, 20], "score": 0.9},
    {"image_id": 2, "category_id": 7, "bbox": [4, 5, 20, 20], "score": 0.8},
]
CAT = {"box": [1.0, 2.0, 21.0, 22.0], "score": 0.5, "label": 0, "class_name": "cat"}
LINES: list[Any] = [
    {"image_id": "a", "path": "x/a.jpg", "width": 64, "height": 48, "detections": [CAT, {**CAT, "class_name": "dog"}]},
    {"image_id": "b", "path": "x/b.jpg", "width": 64, "height": 48, "detections": []},
]
CSV = b'image_id,path,class_name,score,x1,y1,x2,y2\na,x/a.jpg,cat,0.5,1,2,21,22\nb,x/b.jpg,"dog",0.4,1,2,21,22\n'
RUN = {
    "verb": "evaluate",
    "config": {
        "data": "data", "split": "val", "images": None, "metric": "coco", "model": None, "detections": "d.jsonl",
        "format": None, "image_list": None, "invalid": "error", "unknown_classes": "skip", "first": 2,
    },
}  # fmt: skip

SHARED = {"task": "shared", "init": "random", "training": {"steps": 4, "net": {"num_outputs": 3, "norm": "batch"}}}
ENSEMBLE = {"task": "ensemble", "base": {**SHARED, "init": "bundled"}, "members": [{}, {"seed": 3}], "mean": True}


def bytes_or_tree(path: Path, tree: Any, seed: int) -> Path:
    """``tree`` in ``path`` as JSON (which YAML is, too), its bytes or its values mutated."""
    if seed % 3:
        path.write_text(json_text(mutated_tree(tree, seed)), encoding="utf-8")
    else:
        path.write_bytes(mutated_bytes(json.dumps(tree).encode(), seed))
    return path


def bytes_of(name: str, make: Callable[[Path], object], read: Callable[[Path], Any]) -> Callable[[Path], Attempt]:
    """A file that ``make`` writes, its bytes damaged; a value of None from ``read`` says that it noticed."""

    def begin(folder: Path) -> Attempt:
        path = folder / name
        make(path)
        data = path.read_bytes()

        def attempt(seed: int) -> Any:
            path.write_bytes(mutated_bytes(data, seed))
            found = value_or_error(lambda: read(path), path)
            return "damaged" if found is None else found

        return attempt

    return begin


def truth_in(folder: Path) -> CocoTruth:
    """The truth as it should be."""
    (folder / "truth.json").write_text(json.dumps(TRUTH))
    return read_coco_truth(folder / "truth.json")


def evaluated(truth: CocoTruth, found: DetectionTable, folder: Path) -> Evaluation:
    """All that ``evaluate`` does with what was read."""
    found, _ = joined_by_file(found, truth.files, numbers_are_ids=False)
    for metric in ("coco", "voc07", "ilsvrc_det"):
        result = score(metric, found, truth.table, truth.class_names)
        assert all(line.isprintable() for line in summary(result))
    evaluation = assemble(result)
    evaluation.save(folder)
    assert (folder / "per_class.csv").read_text(encoding="utf-8").startswith("class,ap,")
    return Evaluation.load(folder / "evaluation.json")


def read(path: Path, truth: CocoTruth, seed: int, **more: Any) -> Evaluation:
    """Detections, with faulty ones refused or left out by turns, evaluated."""
    fault: Any = ("error", "skip")[seed % 2]
    keys = truth.class_keys
    found = read_detections(path, truth.class_names, class_keys=keys, invalid=fault, unknown_class=fault, **more)
    return evaluated(truth, found, path.parent)


def coco_truth(folder: Path) -> Attempt:
    """COCO's annotations, as the truth of an evaluation."""
    truth = truth_in(folder)
    (folder / "results.json").write_text(json.dumps(RESULTS))
    found = read_detections(folder / "results.json", truth.class_names, class_keys=truth.class_keys)

    def attempt(seed: int) -> Any:
        path = bytes_or_tree(folder / "t.json", TRUTH, seed)
        return value_or_error(lambda: evaluated(read_coco_truth(path), found, folder), path)

    return attempt


def coco_results(folder: Path) -> Attempt:
    """Detections as COCO results."""
    truth = truth_in(folder)

    def attempt(seed: int) -> Any:
        path = bytes_or_tree(folder / "r.json", RESULTS, seed)
        return value_or_error(lambda: read(path, truth, seed))

    return attempt


def json_lines(folder: Path) -> Attempt:
    """The toolkit's own detections, by both of their readers."""
    truth, path = truth_in(folder), folder / "d.jsonl"

    def attempt(seed: int) -> Any:
        tree = mutated_tree(LINES, seed)
        text = "\n".join(json_text(line) for line in (tree if isinstance(tree, list) else [tree]))
        path.write_bytes(text.encode() if seed % 3 else mutated_bytes("\n".join(map(json.dumps, LINES)).encode(), seed))
        value_or_error(lambda: list(detection_files.read_detections(path)), path)
        return value_or_error(lambda: read(path, truth, seed))

    return attempt


def text_file(name: str, text: bytes, format: str | None = None) -> Callable[[Path], Attempt]:
    """Detections in a file of text called ``name``."""

    def begin(folder: Path) -> Attempt:
        truth, path = truth_in(folder), folder / name

        def attempt(seed: int) -> Any:
            path.write_bytes(mutated_bytes(text, seed))
            source = folder if format == "voc" else path
            return value_or_error(lambda: read(source, truth, seed, format=format, image_numbers={1: "1", 2: "2"}))

        return attempt

    return begin


def configuration_of_run(folder: Path) -> Attempt:
    """The ``config.yaml`` of a run of evaluate."""

    def attempt(seed: int) -> Any:
        bytes_or_tree(folder / "config.yaml", RUN, seed)
        first = first_of_run(folder)
        assert first is None or first > 0
        return value_or_error(lambda: read_evaluate_settings(folder), folder)

    return attempt


def record_of_shard(folder: Path) -> Attempt:
    """The ``shard.json`` of a shard, and how its job differs from another's."""
    settings = {"seed": 0, "class_names": ["cat"], "config": {"members": None, "scores": {"threshold": 0.5}}}
    job = Job("detect", 9, "ab", settings, {"inputs": ["list.txt"]}, shard=Shard(1, 3))
    Part(folder, job, ["x.jpg: no image"], 7, {"images": 2}).write()
    tree = json.loads((folder / SHARD_FILE).read_text())

    def attempt(seed: int) -> Any:
        bytes_or_tree(folder / SHARD_FILE, tree, seed)

        def compared() -> Any:
            found = Part.read(folder)
            what = job.difference(found.job)
            if what is not None:
                raise UserError(what)
            return found

        return value_or_error(compared)

    return attempt


def settings(source: Path | dict[str, Any], file: str, reader: Callable[[Path], Any]) -> Callable[[Path], Attempt]:
    """A file of settings, given as a file or as what stands in one."""

    def begin(folder: Path) -> Attempt:
        data = source.read_bytes() if isinstance(source, Path) else yaml.safe_dump(source).encode()
        tree = yaml.safe_load(data)

        def attempt(seed: int) -> Any:
            path = bytes_or_tree(folder / file, tree, seed)
            if seed % 6 == 0:
                path.write_bytes(mutated_bytes(data, seed))
            return value_or_error(lambda: reader(path), path)

        return attempt

    return begin


def recipe(name: str, reader: Callable[[Path], Any]) -> Callable[[Path], Attempt]:
    """One of the recipes in configs/."""
    return settings(ROOT / "configs" / name, name, reader)


def weights(folder: Path) -> Attempt:
    """A safetensors file: its bytes, or its header."""
    path = folder / "w.safetensors"
    save_weights(path, nn.Linear(3, 2).state_dict())
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]

    def attempt(seed: int) -> Any:
        text = json_text(mutated_tree(header, seed)).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + rest if seed % 2 else mutated_bytes(data, seed))
        return value_or_error(lambda: load_into(nn.Linear(3, 2), read_weights(path), path), path)

    return attempt


def store_proposals(path: Path) -> None:
    """Proposals of an image, as a store writes them."""
    image, boxes = np.zeros((8, 9, 3), np.uint8), np.array([[0, 0, 5, 5], [1, 1, 8, 8]], np.float32)
    store = ProposalStore(path.parent, {"method": "none"})
    store.save(image, Proposals(boxes, np.ones(2, np.float32), np.ones(2, np.uint8), (8, 9)))
    store.path(image).rename(path)


def write_numbers(path: Path) -> None:
    """What an experiment keeps of a picture."""
    write_arrays(path, {"x": np.arange(50.0), "y": np.zeros((3, 4), np.float32)}, "numbers")


def result_of_evaluate(folder: Path) -> Attempt:
    """``evaluation.json``, and the report of it."""
    truth = truth_in(folder)
    (folder / "results.json").write_text(json.dumps(RESULTS))
    read(folder / "results.json", truth, 0)
    tree = json.loads((folder / "evaluation.json").read_text())

    def attempt(seed: int) -> Any:
        path = bytes_or_tree(folder / "e.json", tree, seed)

        def report() -> Any:
            try:
                evaluation = Evaluation.load(path)
            except ValueError as error:
                raise UserError(f"{path}: {error}") from error
            return write_report(evaluation, folder / f"{seed}.html")

        return value_or_error(report, path)

    return attempt


FILE_READERS = {
    "detections jsonl": json_lines,
    "detections csv": text_file("d.csv", CSV),
    "detections COCO": coco_results,
    "detections VOC": text_file("comp3_det_test_cat.txt", b"a 0.5 1 2 21 22\nb 0.4 1 2 21 22\n", "voc"),
    "detections ILSVRC": text_file("s.txt", b"1 1 0.5 1 2 21 22\n2 2 0.4 1 2 21 22\n"),
    "truth COCO": coco_truth,
    "list of images": bytes_of("val.txt", lambda path: path.write_bytes(b"val/a 1\nval/b 2\n"), read_image_numbers),
    "run config.yaml": configuration_of_run,
    "run evaluation.json": result_of_evaluate,
    "run log.csv": bytes_of("log.csv", lambda path: path.write_bytes(b"step,loss\n1,0.5\n2,0.25\n"), read_log),
    "run npz": bytes_of("a.npz", write_numbers, lambda path: read_arrays(path, "numbers")),
    "run shard.json": record_of_shard,
    "model model.yaml": settings(BUNDLED_MODEL / MODEL_FILE, MODEL_FILE, lambda path: read_model_config(path.parent)),
    "model safetensors": weights,
    "recipe regions": recipe("finetune.yaml", read_recipe),
    "recipe shared": settings(SHARED, "shared.yaml", read_recipe),
    "recipe ensemble": settings(ENSEMBLE, "ensemble.yaml", lambda path: read_settings(EnsembleRecipe, path)),
    "recipe classifier": recipe("classifier.yaml", read_recipe),
    "recipe experiment": recipe("voc07.yaml", read_experiment),
    "checkpoint": bytes_of(
        "checkpoint.pt",
        lambda path: save_checkpoint(path, {"step": 3, "net": nn.Linear(3, 2).state_dict()}),
        load_checkpoint,
    ),
    "proposals": bytes_of("a.proposals", store_proposals, read_proposals),
}
READERS: dict[str, Callable[[Path], Attempt]] = {**PICTURE_READERS, **DATA_READERS, **FILE_READERS}
"""By kind of file; the first word is the part under which a campaign counts."""
