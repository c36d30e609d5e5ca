"""``detector reproduce``: the experiments in configs/ are sound, and one runs from made-up data to its tables."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command_line import run
from PIL import Image

from detector.commands.reproduce_measure import Part
from detector.commands.reproduce_run import CONFIGS, find_experiment
from detector.data.ilsvrc_det_classes import WNIDS
from detector.experiment.recipe import ExperimentRecipe, read_experiment
from detector.model.config import read_model_config
from detector.model.load import load_model
from detector.nets.multibox import read_multibox_facts
from proposals.errors import UserError
from proposals.types import Source

COMPARISONS = ("tiny-imagenet", "tiny-imagenet-cpu", "googlenet-ilsvrc14", "voc07", "coco")  # the paper's
EXPERIMENTS = (*COMPARISONS, "tiny-imagenet-beginnings-cpu", "tiny-imagenet-taught-cpu")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_says_its_command_cost_and_score_and_is_sound(name: str) -> None:
    path = find_experiment(name)
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("Command:", "Cost:", "Score:"):
        assert any(word in line for line in head), word
    assert any(f"detector reproduce {name} " in line for line in head)
    recipe = read_experiment(path)
    for ensemble in recipe.ensembles.values():
        seeds = [ensemble.member(i).training.seed for i in range(len(ensemble.members))]
        assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("name", COMPARISONS)
def test_the_paper_s_comparisons_are_in_each_experiment_that_repeats_it(name: str) -> None:
    recipe = read_experiment(find_experiment(name))
    regions = {v.proposals for v in recipe.measurement.variants}
    assert regions == {"scale1", "scale2", "multibox", "scale2+multibox"}
    assert {v.combine for v in recipe.measurement.variants} == {"mean", "geometric", "maximum", "nms"}
    assert {v.context for v in recipe.measurement.variants} == {True, False}
    assert {v.regression for v in recipe.measurement.variants} == {True, False}


def test_the_paper_s_entry_is_the_paper_s() -> None:
    recipe = read_experiment(find_experiment("googlenet-ilsvrc14"))
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
    assert recipe.measurement.members == (1, 2, 3, 4, 5, 6)


def test_an_unknown_experiment_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=", ".join(sorted(EXPERIMENTS))):
        find_experiment("imagenet22k")
    with pytest.raises(UserError, match="no such experiment"):
        find_experiment("multibox-tiny-imagenet")  # a recipe, but of a training


SMALL_NET = {"norm": "batch", "width": 0.1, "stem": "stride4", "aux": False}
SMALL_RUN = {"steps": 1, "batch_size": 4, "average": 0.5}


def shrunk(recipe: dict[str, Any]) -> dict[str, Any]:
    """The experiment with tiny networks, two members, one step of each training: all its parts, little of its work."""

    def training(settings: dict[str, Any]) -> dict[str, Any]:
        net = {**settings["net"], **SMALL_NET}
        crop = {**settings["crop"], "size": 32, "context_pad": min(2, settings["crop"]["context_pad"])}
        return {**settings, **SMALL_RUN, "net": net, "crop": crop}

    pretraining = {**recipe["pretraining"], "training": training(recipe["pretraining"]["training"])}
    pretraining["training"]["net"]["num_outputs"] = 2
    ensembles = {}
    for name, ensemble in recipe["ensembles"].items():
        base = {**ensemble["base"], "training": training(ensemble["base"]["training"])}
        ensembles[name] = {**ensemble, "base": base, "members": ensemble["members"][:2]}
    multibox = recipe["multibox"]
    heads = {**multibox["training"]["multibox"], "input_size": 128}
    trunk = {**multibox["training"]["trunk"], **SMALL_NET}
    multibox = {**multibox, "training": {**multibox["training"], **SMALL_RUN, "multibox": heads, "trunk": trunk}}
    measurement = recipe["measurement"]
    variants = [v for v in measurement["variants"] if max(v["members"]) < 2 or v["members"] == [0, 1, 2, 3, 4, 5]]
    variants = [{**v, "members": v["members"][:2]} for v in variants]
    measurement = {**measurement, "variants": variants, "members": [1, 2], "search_side": 64, "bootstrap": 10}
    measurement["regression"] = {**measurement["regression"], "members": 1, "grid": 2}
    measurement["overlap"] = {**measurement["overlap"], "members": 2, "grid": 2, "pictures": 3}
    plain = {"ensemble": "seeds", "members": [0, 1], "localizer": True}
    variants += [{**plain, "name": "localizer"}, {**plain, "name": "localizer and overlap", "overlap": True}]
    crop = {**ensembles["seeds"]["base"]["training"]["crop"], "context_pad": 6}
    localizer = {
        **{name: ensembles["seeds"]["base"][name] for name in ("train_split", "val_split")},
        "init": "pretraining",
        "training": {**SMALL_RUN, "trunk": {**trunk, "norm": "batch"}, "crop": crop, "statistics_batches": 1},
    }
    return {
        **recipe,
        "pretraining": pretraining,
        "ensembles": ensembles,
        "multibox": multibox,
        "localizer": localizer,
        "measurement": measurement,
    }


def put_picture(path: Path, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Grey noise with a red square on it; the square, both corners included."""
    image = rng.integers(90, 160, (60, 70, 3), dtype=np.uint8)
    x, y, side = int(rng.integers(2, 30)), int(rng.integers(2, 20)), int(rng.integers(24, 36))
    image[y : y + side, x : x + side] = (220, 20, 20)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, "JPEG", quality=95)
    return x, y, x + side - 1, y + side - 1


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """ILSVRC DET with R-CNN's lists, and a classification set with a folder for each of two classes."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    det, cls = root / "ILSVRC", root / "CLS"
    lists: dict[str, list[str]] = {"val": [], "val1": [], "val2": [], "train_1": []}
    for i in range(7):
        part = "train" if i < 2 else "val"
        stem = f"p{i}"
        x1, y1, x2, y2 = put_picture(det / "Data" / "DET" / part / f"{stem}.JPEG", rng)
        box = f"<bndbox><xmin>{x1}</xmin><xmax>{x2}</xmax><ymin>{y1}</ymin><ymax>{y2}</ymax></bndbox>"
        thing = f"<object><name>{WNIDS[i % 2]}</name>{box}</object>"
        xml = f"<annotation><size><width>70</width><height>60</height></size>{thing}</annotation>"
        path = det / "Annotations" / "DET" / part / f"{stem}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(xml)
        for name in ("train_1",) if i < 2 else ("val", "val1" if i < 4 else "val2"):
            lists[name].append(f"{stem} {len(lists[name]) + 1 if name != 'train_1' else 1}")
    (det / "ImageSets" / "DET").mkdir(parents=True)
    for name, lines in lists.items():
        (det / "ImageSets" / "DET" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    for split in ("train", "val"):
        for kind in ("one", "two"):
            for i in range(2):
                put_picture(cls / split / kind / f"{i}.jpg", rng)
    return det, cls


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
    assert "3 pictures; mean AP in %" in said
    names = [v["name"] for v in recipe["measurement"]["variants"]]
    with (out / "table.csv").open() as csv_file:
        rows = {row["variant"]: row for row in csv.DictReader(csv_file)}
    assert list(rows) == names
    assert {row["ensemble"] for row in rows.values()} == {"seeds", "initialisations"}
    assert all(0 <= float(row["ilsvrc_det"]) <= 1 for row in rows.values())
    with (out / "errors.csv").open() as csv_file:
        assert [row["variant"] for row in csv.DictReader(csv_file)] == names
    with (out / "effects.csv").open() as csv_file:
        effects = list(csv.DictReader(csv_file))
    changed = {row["of"] for row in effects if ";" not in row["against"]}
    assert {"geometric mean", "maximum", "joined by suppression", "6 members, box regression"} <= changed
    for row in effects:
        before = [float(rows[name]["ilsvrc_det"]) for name in row["against"].split("; ")]
        expected = float(rows[row["of"]]["ilsvrc_det"]) - sum(before) / len(before)
        assert float(row["difference"]) == pytest.approx(expected, abs=1e-12)
    assert "| change | before | after | difference |" in (out / "table.md").read_text()
    with (out / "classification.csv").open() as csv_file:
        measured = [(row["members"], row["crops"], row["objects"]) for row in csv.DictReader(csv_file)]
    assert measured == [("1", "1", "3"), ("2", "1", "3")]
    assert "| members | crops | top-1 | top-5 | ECE |" in said
    assert {row["variant"] for row in rows.values() if row["regression"] == "True"} == {
        "member 1 alone, box regression", "6 members, box regression", "6 members, box regression, overlap"
    }  # fmt: skip
    assert {row["variant"] for row in rows.values() if row["overlap"] == "True"} == {
        "member 1 alone, overlap", "6 members, overlap", "6 members, box regression, overlap", "localizer and overlap"
    }  # fmt: skip
    model = read_model_config(out / "model")
    assert len(model.members) == 2
    picture = np.full((60, 70, 3), 128, np.uint8)
    picture[10:40, 10:40] = (220, 20, 20)
    _, found = load_model(out / "model", device="cpu", score_threshold=0.0, search_side=64).detect(picture)
    assert {Source.SELECTIVE_SEARCH, Source.MULTIBOX} == set(found.source)
    moving = read_model_config(out / "model-heads")
    shapes = [member.head for member in moving.members if member.head is not None]
    assert [(shape.grid, shape.overlap) for shape in shapes] == [(2, 2), (0, 2)]
    assert moving.postprocess.overlap_power == 1.5
    assert moving.refinement is not None
    assert moving.refinement.rounds == 1
    assert {row["variant"] for row in rows.values() if row["localizer"] == "True"} == {
        "localizer", "localizer and overlap"
    }  # fmt: skip
    assert "| localizer -> localizer and overlap |" in (out / "table.md").read_text()
    located = read_model_config(out / "model-localizer")
    assert located.localizer is not None
    assert located.localizer_boxes == "alone"  # as it was measured
    assert located.postprocess.overlap_power == 2.0
    assert [member.head is not None for member in located.members] == [True, True]
    assert yaml.safe_load((out / "localizer" / "recipe.yaml").read_text())["init"] == str(out / "pretraining")
    boxes = found.boxes
    one, other = (load_model(out / name, device="cpu").classifier for name in ("model", "model-heads"))
    np.testing.assert_allclose(one.predict(picture, boxes), other.predict(picture, boxes), atol=1e-5)
    # Members of one ensemble begin alike and differ by what they saw; both began from the pre-trained weights.
    assert yaml.safe_load((out / "seeds" / "member-0" / "recipe.yaml").read_text())["init"] == str(out / "pretraining")

    # Again: nothing is trained or measured twice.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".npz", ".safetensors")}
    assert run(*arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert capsys.readouterr().out.splitlines()[0] == said.splitlines()[0]

    # Pictures measured side by side give the same tables.
    tables = {name: (out / name).read_text() for name in ("table.csv", "table.md", "classification.csv")}
    measured_files = sorted(path for folder in ("pictures", "named") for path in (out / folder).iterdir())
    assert len(measured_files) == 6
    for path in measured_files:
        path.unlink()
    assert run(*arguments, "--measure-part", "2/3") == 0
    assert len(list((out / "pictures").iterdir())) == len(list((out / "named").iterdir())) == 1
    assert run(*arguments, "--jobs", 2) == 0
    assert {name: (out / name).read_text() for name in tables} == tables
    assert sorted(path for folder in ("pictures", "named") for path in (out / folder).iterdir()) == measured_files
    assert (out / "measure-1.txt").exists()

    # Another experiment may take the trained parts as they are.
    taken = str(out / "model-localizer")
    plain = {"ensemble": "seeds", "members": [0, 1]}
    variants = [{**plain, "name": "plain"}, {**plain, "name": "localizer", "localizer": True}]
    changes = {"variants": variants, "regression": None, "overlap": None, "members": [], "crops": []}
    other = {
        **recipe,
        "pretraining": None,
        "ensembles": {"seeds": {**recipe["ensembles"]["seeds"]}},
        "measurement": {**recipe["measurement"], **changes},
        **{"multibox": None, "localizer": None, "multibox_of": taken, "localizer_of": taken},
    }
    other["ensembles"]["seeds"]["base"] = {**other["ensembles"]["seeds"]["base"], "init": str(out / "seeds")}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other, sort_keys=False))
    others = ("reproduce", tmp_path / "other.yaml", "--data", det, "--out", tmp_path / "other", "--device", "cpu")
    assert run(*others) == 0
    with (tmp_path / "other" / "table.csv").open() as csv_file:
        assert [row["variant"] for row in csv.DictReader(csv_file)] == ["plain", "localizer"]
    mine = read_model_config(tmp_path / "other" / "model-localizer")
    assert (mine.multibox, mine.localizer) == (located.multibox, located.localizer)
    assert {member.head for member in mine.members} == {None}

    # A part that is not where it is said to be is known before anything is trained.
    lacking = {**other, "multibox_of": taken, "localizer_of": str(out / "model")}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(lacking, sort_keys=False))
    capsys.readouterr()
    assert run(*others[:5], tmp_path / "third", *others[6:]) == 1
    assert "has no localizer that could be taken" in capsys.readouterr().err
    assert not (tmp_path / "third" / "seeds").exists()
    assert read_multibox_facts(tmp_path / "third" / "multibox").multibox == located.multibox

    recipe["measurement"]["bootstrap"] = 11
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    assert run(*arguments) == 1
    assert "holds another experiment" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["multibox", "localizer"])
def test_a_part_is_trained_or_taken_but_not_both(part: str) -> None:
    recipe = yaml.safe_load(find_experiment("tiny-imagenet-cpu").read_text())
    with pytest.raises(ValueError, match=f"{part} and {part}_of: say one of them"):
        ExperimentRecipe.model_validate({**recipe, f"{part}_of": "somewhere"})
    missing = "multibox is missing" if part == "multibox" else "needs the localizer, which is missing"
    with pytest.raises(ValueError, match=missing):
        ExperimentRecipe.model_validate({**recipe, part: None})
    ExperimentRecipe.model_validate({**recipe, part: None, f"{part}_of": "somewhere"})


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_part_is_i_of_n(part: str) -> None:
    with pytest.raises(UserError, match="say I/N"):
        Part.read(part)
    assert Part.read("2/4") == (1, 4)


def test_a_part_of_what_was_never_begun_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x"
    assert run("reproduce", "voc07", "--data", tmp_path, "--out", out, "--measure-part", "1/2") == 1
    assert "no experiment was begun there" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("change", [{"members": 9}, None], ids=["more than there are", "not fitted"])
def test_regression_that_is_fitted_to_no_member_is_one_line(tmp_path: Path, change: Any) -> None:
    recipe = yaml.safe_load((CONFIGS / "coco.yaml").read_text())
    recipe["measurement"]["regression"] = change
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    with pytest.raises(UserError, match=r"regression") as caught:
        read_experiment(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ensembles": {}}, "ensembles"),
        ({"multibox": None}, "multibox is missing"),
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
