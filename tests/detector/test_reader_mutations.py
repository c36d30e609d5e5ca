"""Readers of evaluation and settings on files made faulty at random: a value or an error of one line, nothing else."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mutations import json_text, mutated_bytes, mutated_tree, value_or_error
from torch import nn

from detector.commands import detection_files
from detector.commands.evaluate import summary
from detector.commands.evaluate_data import first_of_run
from detector.commands.evaluate_settings import read_evaluate_settings
from detector.evaluation.analysis_types import Evaluation
from detector.evaluation.assemble import assemble, score
from detector.evaluation.image_names import joined_by_file
from detector.evaluation.read_files import read_detections, read_image_numbers
from detector.evaluation.read_truth import CocoTruth, read_coco_truth
from detector.evaluation.tables import DetectionTable
from detector.experiment.picture_files import read_arrays, write_arrays
from detector.model.config import BUNDLED_MODEL, MODEL_FILE, read_model_config
from detector.nets.weights import load_into, read_weights, save_weights
from detector.recipes.head import read_head_recipe
from detector.report.plots import read_log
from detector.report.write import write_report
from proposals.errors import UserError
from proposals.priors import grid_priors, read_priors, write_google_priors, write_priors

FEW = 80
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


def bytes_or_tree(path: Path, tree: Any, seed: int) -> Path:
    """``tree`` in ``path`` as JSON (which YAML is, too), its bytes or its values mutated."""
    if seed % 3:
        path.write_text(json_text(mutated_tree(tree, seed)), encoding="utf-8")
    else:
        path.write_bytes(mutated_bytes(json.dumps(tree).encode(), seed))
    return path


def try_seeds(attempt: Callable[[int], Any], seeds: int = FEW) -> None:
    """Both outcomes must occur, so that the mutations are neither too harsh nor too mild."""
    outcomes = Counter(isinstance(attempt(seed), str) for seed in range(seeds))
    assert min(outcomes[True], outcomes[False]) > 0, outcomes


@pytest.fixture
def truth(tmp_path: Path) -> CocoTruth:
    """The truth as it should be."""
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    return read_coco_truth(tmp_path / "truth.json")


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


def test_coco_truth(tmp_path: Path, truth: CocoTruth) -> None:
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    found = read_detections(tmp_path / "results.json", truth.class_names, class_keys=truth.class_keys)

    def attempt(seed: int) -> Any:
        path = bytes_or_tree(tmp_path / "t.json", TRUTH, seed)
        return value_or_error(lambda: evaluated(read_coco_truth(path), found, tmp_path), path)

    try_seeds(attempt)


def test_coco_results(tmp_path: Path, truth: CocoTruth) -> None:
    def attempt(seed: int) -> Any:
        path = bytes_or_tree(tmp_path / "r.json", RESULTS, seed)
        return value_or_error(lambda: read(path, truth, seed))

    try_seeds(attempt)


def test_json_lines(tmp_path: Path, truth: CocoTruth) -> None:
    path = tmp_path / "d.jsonl"

    def attempt(seed: int) -> Any:
        tree = mutated_tree(LINES, seed)
        text = "\n".join(json_text(line) for line in (tree if isinstance(tree, list) else [tree]))
        path.write_bytes(text.encode() if seed % 3 else mutated_bytes("\n".join(map(json.dumps, LINES)).encode(), seed))
        return value_or_error(lambda: read(path, truth, seed))

    try_seeds(attempt)
    try_seeds(lambda seed: attempt(seed) and value_or_error(lambda: list(detection_files.read_detections(path)), path))


@pytest.mark.parametrize(
    ("name", "text", "format"),
    [
        ("d.csv", CSV, None),
        ("comp3_det_test_cat.txt", b"a 0.5 1 2 21 22\nb 0.4 1 2 21 22\n", "voc"),
        ("s.txt", b"1 1 0.5 1 2 21 22\n2 2 0.4 1 2 21 22\n", None),
    ],
    ids=["csv", "voc", "ilsvrc_det"],
)
def test_text_files(name: str, text: bytes, format: str | None, tmp_path: Path, truth: CocoTruth) -> None:
    path = tmp_path / name

    def attempt(seed: int) -> Any:
        path.write_bytes(mutated_bytes(text, seed))
        source = tmp_path if format == "voc" else path
        return value_or_error(lambda: read(source, truth, seed, format=format, image_numbers={1: "1", 2: "2"}))

    try_seeds(attempt)


def test_lists_of_images(tmp_path: Path) -> None:
    def attempt(seed: int) -> Any:
        path = tmp_path / "val.txt"
        path.write_bytes(mutated_bytes(b"val/a 1\nval/b 2\n", seed))
        return value_or_error(lambda: read_image_numbers(path), path)

    try_seeds(attempt)


def test_configurations_of_runs(tmp_path: Path) -> None:
    def attempt(seed: int) -> Any:
        bytes_or_tree(tmp_path / "config.yaml", RUN, seed)
        first = first_of_run(tmp_path)
        assert first is None or first > 0
        return value_or_error(lambda: read_evaluate_settings(tmp_path), tmp_path)

    try_seeds(attempt, FEW // 2)


@pytest.mark.parametrize(
    ("source", "file", "reader"),
    [
        (BUNDLED_MODEL / MODEL_FILE, MODEL_FILE, lambda path: read_model_config(path.parent)),
        (ROOT / "configs" / "head.yaml", "head.yaml", read_head_recipe),
    ],
    ids=["model", "recipe"],
)
def test_settings(source: Path, file: str, reader: Callable[[Path], Any], tmp_path: Path) -> None:
    data = source.read_bytes()
    tree = yaml.safe_load(data)

    def attempt(seed: int) -> Any:
        path = bytes_or_tree(tmp_path / file, tree, seed)
        if seed % 6 == 0:
            path.write_bytes(mutated_bytes(data, seed))
        return value_or_error(lambda: reader(path), path)

    try_seeds(attempt, FEW // 2)


def test_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, nn.Linear(3, 2).state_dict())
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]

    def attempt(seed: int) -> Any:
        text = json_text(mutated_tree(header, seed)).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + rest if seed % 2 else mutated_bytes(data, seed))
        return value_or_error(lambda: load_into(nn.Linear(3, 2), read_weights(path), path), path)

    try_seeds(attempt)


@pytest.mark.parametrize("write", [write_priors, write_google_priors])
def test_priors(write: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "priors.txt"
    write(path, grid_priors((2, 1), 2))
    data = path.read_bytes()

    def attempt(seed: int) -> Any:
        path.write_bytes(mutated_bytes(data, seed))
        return value_or_error(lambda: read_priors(path), path)

    try_seeds(attempt)


def test_results_of_evaluate(tmp_path: Path, truth: CocoTruth) -> None:
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    read(tmp_path / "results.json", truth, 0)
    tree = json.loads((tmp_path / "evaluation.json").read_text())

    def attempt(seed: int) -> Any:
        path = bytes_or_tree(tmp_path / "e.json", tree, seed)

        def report() -> Any:
            try:
                evaluation = Evaluation.load(path)
            except ValueError as error:
                raise UserError(f"{path}: {error}") from error
            return write_report(evaluation, tmp_path / f"{seed}.html")

        return value_or_error(report, path)

    try_seeds(attempt, FEW // 2)


def test_arrays_of_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, {"x": np.arange(50.0), "y": np.zeros((3, 4), np.float32)}, "numbers")
    data = path.read_bytes()

    def attempt(seed: int) -> str | None:
        path.write_bytes(mutated_bytes(data, seed))
        return "damaged" if read_arrays(path, "numbers") is None else None

    try_seeds(attempt, 4 * FEW)


def test_logs(tmp_path: Path) -> None:
    def attempt(seed: int) -> Any:
        path = tmp_path / "log.csv"
        path.write_bytes(mutated_bytes(b"step,loss\n1,0.5\n2,0.25\n", seed))
        return value_or_error(lambda: read_log(path), path)

    try_seeds(attempt)
