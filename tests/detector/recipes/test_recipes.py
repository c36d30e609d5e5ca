"""``detector train`` by recipe: fine-tuning on windows, and the recipes themselves."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import run
from hypothesis import given
from hypothesis import strategies as st
from shared_recipes import (
    RECIPE,
    write,
    write_class_folders,
    write_parts,
    write_photographs,
)

from detector.experiment.recipe import ExperimentRecipe
from detector.model.config import read_model_config
from detector.model.load import load_model
from detector.nets.googlenet import paper_config
from detector.nets.region_head import HeadShape
from detector.recipes.defaults import (
    Plan,
    classifier_recipe,
    finetune_recipe,
    multibox_recipe,
    paper_recipe,
    plan_training,
    shared_recipe,
)
from detector.recipes.initialization import start_of
from detector.recipes.region import (
    EnsembleRecipe,
    SharedRecipe,
    TrainRecipe,
    read_recipe,
)
from detector.strict_yaml import read_settings
from detector.training.proposal_choice import COUNTS
from detector.training.region_trainer import RegionTrainer

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def parts(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(data, tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("classes"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_finetuning_on_windows(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, config = tmp_path / "model", write(tmp_path, RECIPE)
    assert run("train", data, "--config", config, "--out", out, "--proposals", tmp_path / "store") == 0
    said = capsys.readouterr().err
    assert "windows show objects" in said
    stored = list((tmp_path / "store").rglob("*.proposals"))
    assert len(stored) == 8
    times = {path: path.stat().st_mtime_ns for path in stored}
    assert run("train", data, "--config", config, "--out", tmp_path / "b", "--proposals", tmp_path / "store") == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.proposals")} == times
    assert load_model(out, device="cpu").class_names == ("blue", "red")
    recipe = read_recipe(out / "recipe.yaml")
    assert recipe.training.regions == "windows"
    assert "checkpoint.pt" not in {path.name for path in out.iterdir()}


def test_the_new_layer_is_the_fast_one(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RegionTrainer[Any]] = []
    monkeypatch.setattr(RegionTrainer, "adjust_gradients", lambda self: seen.append(self))
    assert run("train", data, "--config", write(tmp_path, RECIPE), "--out", tmp_path / "m") == 0
    trunk, _, head, _ = seen[-1].optimizer.param_groups
    assert head["lr"] == pytest.approx(10 * trunk["lr"])
    assert head["params"][0] is seen[-1].net.fc.weight


@pytest.mark.slow
def test_finetuning_with_boxes_makes_a_model_that_moves_them(data: Path, tmp_path: Path) -> None:
    recipe = {**RECIPE, "training": {**RECIPE["training"], "grid": 2}}
    assert run("train", data, "--config", write(tmp_path, recipe), "--out", tmp_path / "m") == 0
    model = read_model_config(tmp_path / "m")
    assert model.members[0].head == HeadShape(kind="softmax", grid=2, shared=True, overlap=2)
    assert model.members[0].shared is None
    assert model.refinement is not None
    assert model.refinement.rounds == 1
    assert load_model(tmp_path / "m", device="cpu").classifier.members[0].has_box_head
    again = {**recipe, "init": str(tmp_path / "m")}  # trunk and head go on
    assert run("train", data, "--config", write(tmp_path, again), "--out", tmp_path / "n") == 0


@pytest.mark.slow
def test_resume_auto_begins_goes_on_and_is_content(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = write(tmp_path, RECIPE), tmp_path / "cut"
    assert run("train", data, "--config", config, "--out", tmp_path / "whole") == 0

    def stop(self: RegionTrainer[Any]) -> None:
        if self.step == 1:
            signal.raise_signal(signal.SIGTERM)

    words = ("train", data, "--config", config, "--out", out, "--resume", "auto")
    with monkeypatch.context() as patch:
        patch.setattr(RegionTrainer, "adjust_gradients", stop)
        assert run(*words) == 130
    assert run(*words) == 0
    whole, cut = ((folder / "member-0.safetensors").read_bytes() for folder in (tmp_path / "whole", out))
    assert whole == cut
    assert run(*words) == 0
    assert "finished already" in capsys.readouterr().err
    assert run("train", data, "--out", out, "--resume") == 1
    assert "is finished" in capsys.readouterr().err


@pytest.mark.parametrize("left", ["config.yaml", "config.yaml.unfinished", "recipe.yaml.unfinished"])
def test_a_run_that_died_before_its_recipe_was_written_begins_again(data: Path, tmp_path: Path, left: str) -> None:
    out = tmp_path / "m"
    out.mkdir()
    (out / left).write_text("verb: train\n")
    words = ("train", data, "--config", write(tmp_path, RECIPE), "--out", out, "--steps", 1)
    assert run(*words) == 1  # without --resume auto nothing is touched
    assert run(*words, "--resume", "auto") == 0
    assert not list(out.glob("*.unfinished"))


@pytest.mark.parametrize(("name", "text"), [("config.yaml", "verb: detect\n"), ("mine.txt", "verb: train\n")])
def test_a_folder_of_something_else_is_not_taken_over(data: Path, tmp_path: Path, name: str, text: str) -> None:
    out = tmp_path / "m"
    out.mkdir()
    (out / name).write_text(text)
    assert run("train", data, "--config", write(tmp_path, RECIPE), "--out", out, "--resume", "auto") == 1
    assert (out / name).read_text() == text


def test_resume_auto_refuses_another_recipe(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, config = tmp_path / "m", write(tmp_path, RECIPE)
    out.mkdir()
    recorded = read_recipe(config)
    (out / "recipe.yaml").write_text(config.read_text())
    assert recorded.training.steps == 4
    assert run("train", data, "--config", config, "--out", out, "--resume", "auto", "--steps", 9) == 1
    assert "a run of another recipe (training differs)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        pytest.param(["DATA", "--resume", "always"], 2, "unexpected", id="a word behind --resume is an argument"),
        pytest.param(["DATA", "--resume=AUTO"], 1, "--resume AUTO", id="and no value of it"),
        pytest.param(["DATA", "--config", "experiment"], 1, "detector reproduce experiment runs it", id="experiment"),
        pytest.param(["DATA", "--config", "cook"], 1, "task must be one of regions", id="no task"),
        pytest.param(["FOLDERS"], 1, "no boxes", id="pictures without boxes"),
        pytest.param(["DATA", "--recipe", "finetune", "--config", "cook"], 1, "choose one", id="two recipes"),
    ],
)
def test_wrong_words_are_one_line_and_make_nothing(
    words: list[str], code: int, message: str, data: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in ("experiment", "cook"):
        Path(task).write_text(f"task: {task}\nensembles: {{}}\n")
    known = {"DATA": data, "FOLDERS": folders}
    assert run("train", *(known.get(word, word) for word in words), "--out", "out") == code
    assert message.lower() in capsys.readouterr().err.lower()
    assert not Path("out").exists()


@pytest.mark.slow
def test_a_named_recipe_fits_the_network_it_begins_from(data: Path, tmp_path: Path) -> None:
    assert run("train", data, "--config", write(tmp_path, RECIPE), "--out", tmp_path / "small") == 0
    options = ("--init", tmp_path / "small", "--steps", 2, "--out", tmp_path / "tuned")
    assert run("train", data, "--recipe", "finetune", *options) == 0
    tuned = read_recipe(tmp_path / "tuned" / "recipe.yaml")
    small = read_model_config(tmp_path / "small")
    assert tuned.training.crop == small.members[0].crop
    assert tuned.training.net.width == 0.1
    assert tuned.model.proposals != small.proposals  # those that suit the data
    assert tuned.model.proposals.max_proposals in COUNTS
    assert read_model_config(tmp_path / "tuned").proposals == tuned.model.proposals
    assert (tuned.training.head_rate, tuned.training.batch_size, tuned.training.sampling.foreground) == (10, 128, 0.25)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "split", "expected"),
    [
        ("name", None, ("train", "val")),
        ("name", "train", ("train", "val")),
        ("name", "train+val", ("train+val", "")),
        ("file", "train+val", ("train+val", "test")),
        ("file", "train+test", ("train+test", "")),
    ],
)
def test_the_part_to_train_on_is_an_option(
    parts: Path, tmp_path: Path, by: str, split: str | None, expected: tuple[str, str]
) -> None:
    small = write(tmp_path, {**RECIPE, "train_split": "train", "val_split": "test"})
    options = ["--config", small]
    if by == "name":
        assert run("train", parts, *options, "--out", tmp_path / "small") == 0
        options = ["--recipe", "finetune", "--init", tmp_path / "small", "--steps", 1]
    options += ["--out", tmp_path / "m"] if split is None else ["--out", tmp_path / "m", "--split", split]
    assert run("train", parts, *options) == 0
    recipe = read_recipe(tmp_path / "m" / "recipe.yaml")
    assert (recipe.train_split, recipe.val_split) == expected
    images = sum({"train": 4, "val": 2, "test": 2}[part] for part in expected[0].split("+"))
    assert f"{images} images" in read_model_config(tmp_path / "m").provenance["data"]
    assert run("train", parts, *options, "--resume", "auto") == 0


@pytest.mark.slow
def test_an_ensemble_by_name_takes_the_parts_that_there_are(data: Path, parts: Path, tmp_path: Path) -> None:
    assert run("train", data, "--config", write(tmp_path, RECIPE), "--out", tmp_path / "small") == 0
    words = ("--recipe", "ensemble", "--init", tmp_path / "small", "--steps", 1, "--members", 2)
    for number, (source, split, expected) in enumerate(
        ((data, (), ("", "")), (parts, (), ("train", "val")), (parts, ("--split", "train+val"), ("train+val", "")))
    ):
        out = tmp_path / str(number)
        assert run("train", source, *words, *split, "--out", out) == 0
        base = read_settings(EnsembleRecipe, out / "recipe.yaml").base
        assert (base.train_split, base.val_split) == expected
        member = read_recipe(out / "member-1" / "recipe.yaml")
        assert (member.train_split, member.val_split) == expected
        assert len(read_model_config(out).members) == 2


# --- the recipes themselves ----------


def test_paper_recipe_is_the_papers() -> None:
    training = paper_recipe(10_000).training
    assert training.net == paper_config()
    assert training.net.aux
    assert (training.momentum, training.nesterov, training.schedule.kind) == (0.9, False, "googlenet")
    assert (training.sampling.perturbed, training.sampling.area) == (0.0, (0.08, 1.0))
    assert training.sampling.aspect == pytest.approx((3 / 4, 4 / 3))
    assert training.augment.random_interpolation
    assert training.augment.brightness > 0
    assert training.crop.size == 224
    assert training.steps == pytest.approx(60 * 10_000 / 32)


@pytest.mark.parametrize("objects", [1, 500, 10**6])
def test_steps_follow_the_data_within_bounds(objects: int) -> None:
    start = start_of("bundled")
    for recipe, bounds in (
        (finetune_recipe(start, objects), (600, 6000)),
        (classifier_recipe(start, objects), (300, 50_000)),
    ):
        assert bounds[0] <= recipe.training.steps <= bounds[1]


def test_networks_without_batch_normalisation_learn_with_adamw() -> None:
    with_it, without = start_of("small"), start_of("bundled")
    assert (with_it.net.norm, without.net.norm) == ("batch", "lrn")
    assert start_of("random").net == with_it.net
    for recipe in (lambda start: finetune_recipe(start, 500), shared_recipe):
        assert recipe(with_it).training.optimizer == "sgd"
        training = recipe(without).training
        assert (training.optimizer, training.statistics_batches) == ("adamw", 0)
        assert training.schedule.rate < 1e-3
    assert (shared_recipe(with_it).training.frozen, shared_recipe(without).training.frozen) == (False, True)


def test_a_model_of_ones_own_goes_on_at_its_own_size() -> None:
    """Photographs of one's own are smaller than the named models'; training on from the result changes no size."""
    for name in ("small", "bundled", "random"):
        start = start_of(name)
        assert start.maps is not None
        first = shared_recipe(start)
        assert first.training.maps.image_side < first.maps.image_side < start.maps.image_side
        again = shared_recipe(start._replace(init="runs/mine", maps=first.maps))
        assert (again.training.maps, again.maps) == (first.training.maps, first.maps)
        alone = multibox_recipe(start)
        assert alone.training.maps == alone.maps == start.maps


TASKS = {
    "regions": TrainRecipe,
    "ensemble": EnsembleRecipe,
    "shared": SharedRecipe,
    "experiment": ExperimentRecipe,
}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_files_in_configs_say_what_differs_from_the_defaults(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert all(f"# {word}:" in text for word in ("Command", "Cost", "Score"))
    stated = yaml.safe_load(text)
    recipe = read_settings(TASKS[stated["task"]], path)
    differing = recipe.model_dump(mode="json", exclude_defaults=True)
    stated.get("training", {}).get("net", {}).pop("kind", None)  # it says which defaults there are
    for ensemble in (stated, *stated.get("ensembles", {}).values()):
        ensemble.get("base", {}).pop("task", None)  # as is the file's own
    assert stated == {"task": stated["task"], **differing}


# --- a budget of time becomes images and steps ----------


SECONDS = st.floats(1.0, 1e5)
COST = st.floats(1e-3, 10.0)


@pytest.mark.parametrize(
    ("seconds", "images", "in_step", "costs", "plan"),
    [
        pytest.param(600.0, 240, 8, (0.05, 1.5, 18.0), Plan(240, 380), id="there is time for all images"),
        pytest.param(600.0, 100_000, 8, (0.125, 1.0, 0.0), Plan(2400, 300), id="more than can be shown"),
        pytest.param(1.0, 50, 8, (0.1, 1.5, 30.0), Plan(1, 1), id="there is always something to do"),
        pytest.param(3600.0, 10, 1, (0.0, 7200.0, 0.0), Plan(1, 1), id="less than a step"),
    ],
)
def test_plans(seconds: float, images: int, in_step: int, costs: tuple[float, float, float], plan: Plan) -> None:
    image, step, end = costs
    assert plan_training(seconds, images, in_step, image=image, step=step, end=end) == plan


@given(SECONDS, st.integers(1, 10**6), st.integers(1, 64), COST, COST, st.floats(0.0, 100.0))
def test_a_plan_ends_in_time_and_wastes_less_than_a_step(
    seconds: float, available: int, in_step: int, image: float, step: float, end: float
) -> None:
    plan = plan_training(seconds, available, in_step, image=image, step=step, end=end)
    assert 1 <= plan.images <= available
    assert plan.steps >= 1
    spent = plan.images * image + plan.steps * step + end
    if plan.steps > 1:
        assert spent <= seconds * (1 + 1e-9)
        assert spent + step > seconds * (1 - 1e-9)
        assert plan.steps * in_step >= plan.images - in_step  # each image is shown, but for the last step's


@given(SECONDS, SECONDS, st.integers(1, 10**4), COST, COST)
def test_more_time_is_never_less_work(a: float, b: float, available: int, image: float, step: float) -> None:
    less, more = (plan_training(seconds, available, 8, image=image, step=step, end=0.0) for seconds in sorted((a, b)))
    assert more.images >= less.images
    assert more.images > less.images or more.steps >= less.steps
