"""``detector reproduce``: the experiments in configs/ are sound, and one runs from made-up data to its tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command_line import run
from PIL import Image
from voc_sets import voc_xml, write_voc

from detector.commands.reproduce_run import CONFIGS, find_experiment
from detector.data.ilsvrc_det import read_class_table
from detector.experiment.recipe import read_experiment
from detector.model.config import read_model_config
from detector.model.load import load_model
from proposals.errors import UserError
from proposals.types import Source

EXPERIMENTS = ("googlenet-ilsvrc14", "voc07", "voc-proposals", "voc-looks", "coco")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_says_its_command_cost_and_score_and_is_sound(name: str) -> None:
    stem, recipe = find_experiment(name)
    head = [line for line in (CONFIGS / f"{stem}.yaml").read_text().splitlines() if line.startswith("#")]
    for word in ("Command:", "Cost:", "Score:"):
        assert any(word in line for line in head), word
    assert any(f"detector reproduce {name} " in line for line in head)
    for ensemble in recipe.ensembles.values():
        seeds = [ensemble.member(i).training.seed for i in range(len(ensemble.members))]
        assert len(set(seeds)) == len(seeds)


def test_the_paper_s_entry_is_the_paper_s() -> None:
    _, recipe = find_experiment("googlenet-ilsvrc14")
    assert recipe.pretraining is not None
    first, second = recipe.ensembles.values()
    assert len(first.members) == len(second.members) == 6
    for training in (first.member(0).training, recipe.pretraining.training):
        net = training.net
        assert (net.norm, net.kernel5, net.pool4_kernel, net.width, net.stem) == ("lrn", 5, 3, 1.0, "stride8")
        assert net.aux
        assert (training.momentum, training.schedule.kind) == (0.9, "googlenet")
        assert training.crop.size == 224
    assert (first.base.train_split, first.base.val_split, recipe.measurement.split) == ("train+val1", "val2", "val2")
    assert first.member(0).training.net.num_outputs == 201
    # Same first weights in one ensemble, others in each member of the second.
    assert len({first.member(i).training.first_seed for i in range(6)}) == 1
    assert len({second.member(i).training.first_seed for i in range(6)}) == 6
    # All of the paper's comparisons, each by what the model allows.
    assert recipe.measurement.variants == ()
    assert recipe.multibox is not None
    assert first.base.model.proposals.selective_search.superpixel_scale == 2.0


def test_an_unknown_experiment_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=", ".join(sorted(EXPERIMENTS))):
        find_experiment("imagenet22k")
    with pytest.raises(UserError, match="no such experiment"):
        find_experiment("finetune")  # a recipe, but of a training


BUDGETED = ("at most 100 proposals", "at most 300 proposals", "at most 1000 proposals")
COMBINED = ("geometric mean", "maximum", "joined by NMS")
SMALL_NET = {"norm": "batch", "width": 0.1, "stem": "stride4", "aux": False}
SMALL_RUN = {"steps": 1, "batch_size": 4}


def shrunk(recipe: dict[str, Any]) -> dict[str, Any]:
    """The experiment with tiny networks, one step of each training: all its parts, little of its work."""

    def small(part: dict[str, Any]) -> dict[str, Any]:
        training = part["training"]
        own = {**training, **SMALL_RUN, "net": {**training["net"], **SMALL_NET}}
        if part["task"] == "shared":
            maps = {**training["maps"], "image_side": 64, "region_side": 24}
            return {**part, "image_side": 64, "training": {**own, "maps": maps, "regions": 4}}
        crop = {**training["crop"], "size": 32, "context_pad": min(2, training["crop"]["context_pad"])}
        return {**part, "training": {**own, "crop": crop}}

    def begun(part: dict[str, Any]) -> dict[str, Any]:
        """Without weights of other networks than its own, so with nothing to keep frozen."""
        if part["init"] == "pretraining":
            return part
        frozen = {"frozen": False} if "frozen" in part["training"] else {}
        return {**part, "init": "random", "training": {**part["training"], **frozen}}

    pretraining = recipe["pretraining"]
    if pretraining is not None:
        pretraining = small(pretraining)
        pretraining["training"]["net"]["num_outputs"] = 2
    some = slice(None if recipe["measurement"]["variants"] else 2)  # variants name the members that they look at
    ensembles = {
        name: {**ensemble, "base": begun(small(ensemble["base"])), "members": ensemble["members"][some]}
        for name, ensemble in recipe["ensembles"].items()
    }
    changes = {
        "bootstrap": 10,
        "change": {"proposals": {"search_side": 64}},
        "precision": "float32",
    }  # of processes, too
    measurement = {**recipe["measurement"], **changes}
    multibox = recipe["multibox"] and small(recipe["multibox"])
    parts = {"pretraining": pretraining, "ensembles": ensembles, "multibox": multibox}
    return {**recipe, **parts, "measurement": measurement}


def put_picture(path: Path, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Grey noise with a red square on it; the square, half-open."""
    image = rng.integers(90, 160, (60, 70, 3), dtype=np.uint8)
    x, y, side = int(rng.integers(2, 30)), int(rng.integers(2, 20)), int(rng.integers(24, 36))
    image[y : y + side, x : x + side] = (220, 20, 20)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return x, y, x + side, y + side


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """ILSVRC DET with R-CNN's lists, and a classification set with a folder for each of two classes."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    det, cls = root / "ILSVRC", root / "CLS"
    for name, numbers in {"train_1": "01", "val": "23456", "val1": "23", "val2": "456"}.items():
        part = "train" if name == "train_1" else "val"
        lines = [f"p{i} {1 if part == 'train' else n}\n" for n, i in enumerate(numbers, 1)]
        (det / "ImageSets" / "DET").mkdir(parents=True, exist_ok=True)
        (det / "ImageSets" / "DET" / f"{name}.txt").write_text("".join(lines))
        for i in map(int, numbers if name in ("train_1", "val") else ""):
            x1, y1, x2, y2 = put_picture(det / "Data" / "DET" / part / f"p{i}.JPEG", rng)
            box = (x1 - 1, y1 - 1, x2 - 1, y2 - 1)  # from 0
            xml = voc_xml(f"p{i}.JPEG", (60, 70), [(read_class_table().keys[i % 2], box)])
            (det / "Annotations" / "DET" / part).mkdir(parents=True, exist_ok=True)
            (det / "Annotations" / "DET" / part / f"p{i}.xml").write_text(xml)
    for place in ("train/one/0", "train/one/1", "train/two/0", "train/two/1", "val/one/0", "val/two/0"):
        put_picture(cls / f"{place}.jpg", rng)
    return det, cls


@pytest.mark.slow
def test_the_ilsvrc_experiment_runs_from_the_data_to_the_tables_and_goes_on_where_it_was(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = shrunk(read_experiment(CONFIGS / "googlenet_ilsvrc14.yaml").model_dump(mode="json"))
    file, out = tmp_path / "small.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    det, cls = data
    arguments = ("reproduce", file, "--data", det, "--pretraining-data", cls, "--out", out, "--device", "cpu")
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    assert "3 images; mean AP in %" in said
    names = [
        f"{ensemble}: {row}"
        for ensemble in ("seeds", "initialisations")
        for row in (
            "network 1 alone", "network 2 alone", "2 networks", "selective search alone",
            "selective search alone, scale 1", *BUDGETED, "soft suppression", *COMBINED, "without context",
        )
    ]  # fmt: skip
    rows = rows_of(out / "table.csv")
    assert [row["variant"] for row in rows] == names
    scored = {row["variant"]: float(row["ilsvrc_det"]) for row in rows}
    assert all(0 <= score <= 1 for score in scored.values())
    assert [row["variant"] for row in rows_of(out / "errors.csv")] == names
    assert (out / "effects.png").is_file()
    effects = {row["of"]: row for row in rows_of(out / "effects.csv")}
    first = "seeds: network 1 alone"
    plain = [name for name in names if "network" in name and name.endswith(" alone")]
    assert list(effects) == [name for name in names if name not in plain or name == "initialisations: network 1 alone"]
    assert effects["initialisations: network 1 alone"]["against"] == first
    assert effects["seeds: 2 networks"]["against"] == "seeds: network 1 alone; seeds: network 2 alone"
    assert effects["seeds: selective search alone"]["against"] == "seeds: 2 networks"
    for name, row in effects.items():
        before = [scored[other] for other in row["against"].split("; ")]
        expected = scored[name] - sum(before) / len(before)
        assert float(row["difference"]) == pytest.approx(expected, abs=1e-12)
    assert "| variant | against | before | after | difference |" in said
    assert "| seeds: selective search alone | seeds: 2 networks | " in (out / "table.md").read_text()
    model = read_model_config(out / "seeds-multibox")
    assert len(model.members) == 2
    picture = np.full((60, 70, 3), 128, np.uint8)
    picture[10:40, 10:40] = (220, 20, 20)
    _, found = load_model(out / "seeds-multibox", device="cpu", score_threshold=0.0, search_side=64).detect(picture)
    assert {Source.SELECTIVE_SEARCH, Source.MULTIBOX} == set(found.source)
    # Members of one ensemble begin alike and differ by what they saw; both began from the pre-trained weights.
    assert yaml.safe_load((out / "seeds" / "member-0" / "recipe.yaml").read_text())["init"] == str(out / "pretraining")

    # Again: nothing is trained or measured twice.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".npz", ".safetensors")}
    assert run(*arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert capsys.readouterr().out == said

    # Images measured side by side give the same tables.
    tables = {name: (out / name).read_text() for name in ("table.csv", "table.md", "effects.csv", "errors.csv")}
    measured_files = sorted((out / "pictures").iterdir())
    assert len(measured_files) == 3
    for path in [*measured_files, out / "table.md"]:
        path.unlink()
    assert run(*arguments, "--measure-part", "2/3") == 0
    assert len(list((out / "pictures").iterdir())) == 1
    assert not (out / "table.md").exists()
    assert run(*arguments, "--jobs", 2) == 0
    assert {name: (out / name).read_text() for name in tables} == tables
    assert sorted((out / "pictures").iterdir()) == measured_files
    assert (out / "measure-1.txt").exists()

    # Another experiment may measure models that are there beside its own.
    plain_row = {"name": "mine", "against": ["theirs"]}
    theirs = {"name": "theirs", "model": "there", "members": [1, 0], "change": {"postprocess": {"nms_threshold": 0.5}}}
    other = {
        "task": "experiment",
        "ensembles": {"one": {**recipe["ensembles"]["seeds"], "members": [{}]}},
        "models": {"there": str(out / "seeds-multibox")},
        "measurement": {**recipe["measurement"], "variants": [plain_row, theirs]},
    }
    other["ensembles"]["one"]["base"] = {**recipe["ensembles"]["seeds"]["base"], "init": str(out / "seeds")}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other, sort_keys=False))
    others = ("reproduce", tmp_path / "other.yaml", "--data", det, "--out", tmp_path / "other", "--device", "cpu")
    assert run(*others) == 0
    measured = [(row["variant"], row["model"], row["members"]) for row in rows_of(tmp_path / "other" / "table.csv")]
    assert measured == [("mine", "", ""), ("theirs", "there", "1 0")]
    capsys.readouterr()

    # What is measured may change without another training; what is trained may not.
    recipe["measurement"]["variants"] = [{"name": "two"}]
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    weights = {path: path.stat().st_mtime_ns for path in before if path.suffix == ".safetensors"}
    assert run(*arguments) == 0
    assert [row["variant"] for row in rows_of(out / "table.csv")] == ["two"]
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    recipe["ensembles"]["seeds"]["base"]["training"]["seed"] = 9
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    assert run(*arguments) == 1
    assert "holds another experiment" in capsys.readouterr().err


def made_up_voc(root: Path) -> Path:
    """VOC 2007: four images to train on, two in test."""
    rng, year = np.random.default_rng(1), root / "VOC2007"
    boxes = {str(i): put_picture(year / "JPEGImages" / f"{i}.png", rng) for i in range(6)}
    objects = {name: [(("cat", "dog")[int(name) % 2], box)] for name, box in boxes.items()}
    write_voc(year, (60, 70), objects, {"fit": "0123", "test": "45"})
    return root


def made_up_coco(root: Path) -> Path:
    """COCO 2017: four images in train2017, two in val2017."""
    rng = np.random.default_rng(1)
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": i, "name": name} for i, name in enumerate(("cat", "dog"))]
    for split, count in (("train2017", 4), ("val2017", 2)):
        images = [{"id": i, "file_name": f"{i}.jpg", "width": 70, "height": 60} for i in range(count)]
        objects = []
        for i in range(count):
            x1, y1, x2, y2 = put_picture(root / split / f"{i}.jpg", rng)
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            objects.append({"id": i, "image_id": i, "category_id": i % 2, "iscrowd": 0, **box})
        content = {"images": images, "annotations": objects, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "make", "metrics", "across", "rest"),
    [
        (
            "voc07", made_up_voc, {"voc07", "voc10"}, {"crops": "network 1, selective search alone"},
            ("six networks", "cascade", "geometric mean of six", "maximum of six", "two looks", "without context"),
        ),
        ("coco", made_up_coco, {"voc10"}, {}, (*BUDGETED, *COMBINED, "scale 1", "2 networks")),
    ],
)  # fmt: skip
def test_the_other_experiments_run_from_made_up_data_to_the_tables(
    name: str,
    make: Callable[[Path], Path],
    metrics: set[str],
    across: dict[str, str],
    rest: tuple[str, ...],
    tmp_path: Path,
) -> None:
    recipe = shrunk(read_experiment(CONFIGS / f"{name}.yaml").model_dump(mode="json"))
    recipe["measurement"]["first"] = 1
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    data, out = make(tmp_path / "data"), tmp_path / "out"
    assert run("reproduce", tmp_path / "small.yaml", "--data", data, "--out", out, "--device", "cpu") == 0
    rows = rows_of(out / "table.csv")
    assert metrics == rows[0].keys() & {"voc07", "voc10", "ilsvrc_det"}
    assert all(0 <= float(row[metric]) <= 1 for row in rows for metric in metrics)
    effects = {row["of"]: row["against"] for row in rows_of(out / "effects.csv")}
    assert effects.items() >= across.items()
    assert all(any(row.endswith(word) for row in effects) for word in rest)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_model_folder_is_measured_as_it_is(data: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("reproduce", "bundled", "--data", data[0], "--out", out, "--split", "val2", "--device", "cpu")
    assert run(*arguments, "--first", 1) == 0
    assert [row["variant"] for row in rows_of(out / "table.csv")] == [
        "1 network", "selective search alone", "selective search alone, scale 1", *BUDGETED, "without refinement",
        "without box regression", "without overlap", "plain suppression",
    ]  # fmt: skip
    against = {row["of"]: row["against"] for row in rows_of(out / "effects.csv")}
    assert against["without box regression"] == "without refinement"
    assert len(list((out / "pictures").iterdir())) == 1
    assert not (out / "bundled").exists()
    assert run(*arguments, "--first", 2) == 0
    assert len(list((out / "pictures").iterdir())) == 2


@pytest.mark.parametrize(
    ("part", "words"), [("1/2", "no experiment was begun there"), ("3/2", "--measure-part 3/2: write i/N")]
)
def test_a_part_of_what_was_never_begun_is_refused(run_cli: Any, tmp_path: Path, part: str, words: str) -> None:
    done = run_cli("reproduce", "voc07", "--data", tmp_path, "--out", "x", "--measure-part", part)
    assert words in done.fault
    assert not Path("x").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ensembles": {}}, "ensembles or models: name at least one"),
        ({"measurement": {"variants": [{"name": "x"}, {"name": "x"}]}}, "two variants have the same name"),
        ({"measurement": {"variants": [{"name": "x", "against": ["y"]}]}}, "no other variant is called 'y'"),
        ({"measurement": {"variants": [{"name": "x", "against": ["x"]}]}}, "no other variant is called 'x'"),
        ({"measurement": {"variants": [{"name": "x", "model": "y"}]}}, "no ensemble or model is called 'y'"),
        ({"models": {"seeds": "somewhere"}}, "'seeds' is the name of something else"),
        ({"pretraining": None}, "there is no pretraining"),
    ],
)
def test_experiments_that_do_not_fit_together_are_one_line(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    recipe = read_experiment(CONFIGS / "googlenet_ilsvrc14.yaml").model_dump(mode="json")
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({**recipe, **change}, sort_keys=False))
    with pytest.raises(UserError, match=message) as caught:
        read_experiment(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)
