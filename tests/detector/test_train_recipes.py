"""``detector train`` by recipe: fine-tuning on windows, ensembles, classifiers first; from the pictures to a model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import detector.commands.train_ensemble_run
import detector.commands.train_finetune_head_run
import detector.training.regions
from detector.classifier import load_classifier, read_classifier_config
from detector.cli import main
from detector.commands.device_jobs import shared_environment
from detector.commands.train_ensemble_run import devices_of, gpus_of, member_command
from detector.commands.train_finetune_head_run import second_stage
from detector.commands.train_run import TrainRequest
from detector.config import (
    EnsembleRecipe,
    MemberPlan,
    TrainRecipe,
    read_classifier_recipe,
    read_ensemble_recipe,
    read_recipe,
)
from detector.data import load_dataset
from detector.first_weights import start_of
from detector.head_config import HeadRecipe
from detector.model import load_model, read_model_config
from detector.nets.googlenet import paper_config
from detector.recipes import classifier_recipe, ensemble_recipe, finetune_recipe, paper_recipe
from detector.training.processes import ALONE, Processes
from detector.training.proposal_choice import ProposalChoiceConfig
from detector.training.regions import RegionTrainer
from proposals.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
NET = {"norm": "batch", "width": 0.1, "stem": "stride4"}
TRAINING: dict[str, Any] = {
    "net": NET,
    "crop": {"size": 32, "context_pad": 2},
    "schedule": {"rate": 0.1, "warmup": 0.1},
    "steps": 4,
    "batch_size": 16,
    "average": 0.5,
    "statistics_batches": 1,
}
SEARCH = {"selective_search": {"color_spaces": ["HSV"], "k": [50.0], "min_box_side": 8}, "search_side": None}
RECIPE: dict[str, Any] = {
    "training": {**TRAINING, "regions": "windows", "head_rate": 10.0, "sampling": {"foreground": 0.25}},
    "model": {"licence": "MIT", "proposals": SEARCH},
}
XML = """<annotation><filename>{name}.png</filename><size><width>64</width><height>56</height><depth>3</depth></size>
<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>
</annotation>"""


def draw(rng: np.random.Generator, label: int, place: tuple[int, int, int]) -> np.ndarray:
    x, y, side = place
    image = rng.integers(90, 160, (56, 64, 3), dtype=np.uint8)
    image[y : y + side, x : x + side] = (220, 20, 20) if label == 0 else (20, 20, 220)
    return image


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs with a labelling tool's VOC XML beside each."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(8):
        place = int(rng.integers(0, 24)), int(rng.integers(0, 16)), int(rng.integers(24, 36))
        Image.fromarray(draw(rng, i % 2, place)).save(root / f"{i}.png")
        x, y, side = place
        fields = {"x1": x + 1, "y1": y + 1, "x2": x + side, "y2": y + side}
        (root / f"{i}.xml").write_text(XML.format(name=i, label=("red", "blue")[i % 2], **fields))
    return root


@pytest.fixture(scope="module")
def parts(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same photographs as a VOC set of three parts."""
    root = tmp_path_factory.mktemp("parts")
    for folder, ending in (("JPEGImages", "png"), ("Annotations", "xml")):
        (root / folder).mkdir()
        for path in data.glob(f"*.{ending}"):
            shutil.copy(path, root / folder)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for split, names in (("train", "0123"), ("val", "45"), ("test", "67")):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in folders by class, in train and val."""
    root, rng = tmp_path_factory.mktemp("classes"), np.random.default_rng(1)
    for split, count in (("train", 6), ("val", 3)):
        for label, name in enumerate(("red", "blue")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(draw(rng, label, (2, 2, 50))).save(root / split / name / f"{i}.png")
    return root


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "recipe-to-use.yaml"
    path.write_text(yaml.safe_dump({"train_split": "", "val_split": "", **content}))
    return path


def write_ensemble(folder: Path, members: list[dict[str, Any]]) -> Path:
    path = folder / "ensemble-to-use.yaml"
    base = {"train_split": "", "val_split": "", **RECIPE}
    path.write_text(yaml.safe_dump({"task": "ensemble", "base": base, "members": members}))
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- fine-tuning ----------


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
    seen: list[RegionTrainer] = []
    monkeypatch.setattr(RegionTrainer, "adjust_gradients", lambda self: seen.append(self))
    assert run("train", data, "--config", write(tmp_path, RECIPE), "--out", tmp_path / "m") == 0
    trunk, _, head, _ = seen[-1].optimizer.param_groups
    assert head["lr"] == pytest.approx(10 * trunk["lr"])
    assert head["params"][0] is seen[-1].net.fc.weight


def test_interrupted_finetuning_equals_a_whole_one(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path, RECIPE)
    assert run("train", data, "--config", config, "--out", tmp_path / "whole") == 0

    def stop(self: RegionTrainer) -> None:
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RegionTrainer, "adjust_gradients", stop)
        assert run("train", data, "--config", config, "--out", tmp_path / "cut", "--resume", "auto") == 130
    assert run("train", data, "--config", config, "--out", tmp_path / "cut", "--resume", "auto") == 0
    whole, cut = ((tmp_path / name / "member-0.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_resume_auto_begins_goes_on_and_is_content(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, config = tmp_path / "m", write(tmp_path, RECIPE)
    assert run("train", data, "--config", config, "--out", out, "--resume", "auto") == 0
    assert run("train", data, "--config", config, "--out", out, "--resume", "auto") == 0
    assert "finished already" in capsys.readouterr().err
    assert run("train", data, "--out", out, "--resume") == 1
    assert "is finished" in capsys.readouterr().err


def test_resume_auto_refuses_another_recipe(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, config = tmp_path / "m", write(tmp_path, RECIPE)
    out.mkdir()
    recorded = read_recipe(config)
    (out / "recipe.yaml").write_text(config.read_text())
    assert recorded.training.steps == 4
    assert run("train", data, "--config", config, "--out", out, "--resume", "auto", "--steps", 9) == 1
    assert "a run of another recipe (training differs)" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["always", "AUTO"])
def test_other_words_behind_resume_are_no_values(data: Path, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", data, "--out", "x", "--resume", word) == 2  # taken as another argument
    assert "unexpected" in capsys.readouterr().err.lower()
    assert run("train", data, "--out", "x", f"--resume={word}") == 1
    assert f"--resume {word}" in capsys.readouterr().err


def test_pictures_without_boxes_are_for_the_classifier(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", folders) == 1
    assert "no boxes" in capsys.readouterr().err


def test_recipe_and_config_exclude_each_other(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", data, "--recipe", "finetune", "--config", write(tmp_path, RECIPE)) == 1
    assert "choose one" in capsys.readouterr().err


def test_a_named_recipe_fits_the_network_it_begins_from(data: Path, tmp_path: Path) -> None:
    assert run("train", data, "--config", write(tmp_path, RECIPE), "--out", tmp_path / "small") == 0
    options = ("--init", tmp_path / "small", "--steps", 2, "--out", tmp_path / "tuned")
    assert run("train", data, "--recipe", "finetune", *options) == 0
    tuned = read_recipe(tmp_path / "tuned" / "recipe.yaml")
    small = read_model_config(tmp_path / "small")
    assert tuned.training.crop == small.members[0].crop
    assert tuned.training.net.width == 0.1
    assert tuned.model.proposals != small.proposals  # those that suit the data
    assert tuned.model.proposals.max_proposals in ProposalChoiceConfig().counts
    assert read_model_config(tmp_path / "tuned").proposals == tuned.model.proposals
    assert (tuned.training.head_rate, tuned.training.batch_size, tuned.training.sampling.foreground) == (10, 128, 0.25)


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


def test_an_ensemble_by_name_takes_the_parts_that_there_are(data: Path, parts: Path, tmp_path: Path) -> None:
    assert run("train", data, "--config", write(tmp_path, RECIPE), "--out", tmp_path / "small") == 0
    words = ("--recipe", "ensemble", "--init", tmp_path / "small", "--steps", 1, "--members", 2)
    for number, (source, split, expected) in enumerate(
        ((data, (), ("", "")), (parts, (), ("train", "val")), (parts, ("--split", "train+val"), ("train+val", "")))
    ):
        out = tmp_path / str(number)
        assert run("train", source, *words, *split, "--out", out) == 0
        base = read_ensemble_recipe(out / "recipe.yaml").base
        assert (base.train_split, base.val_split) == expected
        member = read_recipe(out / "member-1" / "recipe.yaml")
        assert (member.train_split, member.val_split) == expected
        assert len(read_model_config(out).members) == 2


@pytest.mark.parametrize("kind", ["svm", "softmax"])
def test_a_head_on_the_finetuned_network(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def briefly(tuned: Path, name: str, kind: str, seed: int) -> HeadRecipe:
        recipe = second_stage(tuned, name, kind, seed)
        assert recipe.tuning is not None, "for boxes and against hard negatives"
        return recipe.model_copy(update={"tuning": recipe.tuning.model_copy(update={"steps": 2, "batch_size": 8})})

    monkeypatch.setattr(detector.commands.train_finetune_head_run, "second_stage", briefly)
    assert (
        run("train", parts, "--config", write(tmp_path, RECIPE), "--split", "train", "--out", tmp_path / "small") == 0
    )
    words = ("--recipe", "finetune", "--init", tmp_path / "small", "--steps", 2, "--head", kind)
    words = (*words, "--split", "train+val", "--out", tmp_path / "m")
    assert run("train", parts, *words) == 0
    tuned, whole = read_model_config(tmp_path / "m-finetuned"), read_model_config(tmp_path / "m")
    assert tuned.members[0].head is None
    assert whole.members[0].head is not None
    assert whole.members[0].head.shape.kind == kind
    assert whole.refinement is not None, "box regression"
    assert whole.proposals == tuned.proposals
    assert whole.provenance["init"] == str(tmp_path / "m-finetuned")
    assert all("split train+val, 6 images" in model.provenance["data"] for model in (tuned, whole))
    own, first = (load_file(tmp_path / name / "member-0.safetensors") for name in ("m", "m-finetuned"))
    assert any(not torch.equal(own[key], first[key]) for key in own), "tuned once more"
    found = load_model(tmp_path / "m", device="cpu", score_threshold=0.0)(np.full((56, 64, 3), 128, np.uint8))
    assert np.isfinite(found.scores).all()
    assert run("train", parts, *words, "--resume", "auto") == 0


def test_a_head_goes_with_its_recipes_only(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", data, "--recipe", "paper", "--head", "svm") == 1
    assert "--head is for" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("train", "DATA", "--recipe", "head"),
        ("train", "DATA", "--recipe", "finetune", "--head", "svm"),
        ("train-multibox", "DATA"),
    ],
)
def test_what_is_the_work_of_one_process(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(*(str(data) if word == "DATA" else word for word in words)) == 1
    assert "without torchrun" in capsys.readouterr().err


# --- ensembles ----------


def test_an_ensemble_is_one_model_and_trains_no_member_twice(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, config = tmp_path / "e", write_ensemble(tmp_path, [{}, {"width": 0.15}, {"seed": 40}])
    trained: list[int] = []

    def stop_in_second(self: RegionTrainer) -> None:
        trained.append(self.config.seed)
        if self.config.seed == 1 and self.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RegionTrainer, "adjust_gradients", stop_in_second)
        assert run("train", data, "--config", config, "--out", out) == 130
    assert trained == [0] * 4 + [1] * 3
    assert (out / "member-0" / "model.yaml").exists()
    assert not (out / "model.yaml").exists()
    first = (out / "member-0" / "member-0.safetensors").stat().st_mtime_ns

    trained.clear()
    monkeypatch.setattr(RegionTrainer, "adjust_gradients", lambda self: trained.append(self.config.seed))
    assert run("train", data, "--out", out, "--resume") == 0
    assert trained == [1] + [40] * 4
    assert (out / "member-0" / "member-0.safetensors").stat().st_mtime_ns == first
    config_ = read_model_config(out)
    assert [member.net.width for member in config_.members] == [0.1, 0.15, 0.1]
    model = load_model(out, device="cpu")
    assert model.classifier.num_members == 3  # type: ignore[attr-defined]
    image, boxes = np.full((56, 64, 3), 128, np.uint8), np.array([[4.0, 4, 40, 40]])
    alone = [load_model(out / f"member-{i}", device="cpu").classifier.predict(image, boxes) for i in range(3)]
    np.testing.assert_allclose(model.classifier.predict(image, boxes), np.mean(alone, axis=0), atol=1e-5)
    assert run("train", data, "--out", out, "--resume", "auto", "--config", config) == 0


def test_members_differ_in_sampling_and_share_first_weights() -> None:
    recipe = ensemble_recipe(TrainRecipe.model_validate({**RECIPE, "training": {**TRAINING, "seed": 7}}))
    members = [recipe.member(i) for i in range(6)]
    assert [member.training.seed for member in members] == [7, 8, 9, 10, 11, 12]
    assert {member.training.first_seed for member in members} == {7}
    assert len({member.model_copy(update={"training": None}).model_dump_json() for member in members}) == 1


def test_members_of_other_beginnings() -> None:
    base = TrainRecipe.model_validate(RECIPE)
    recipe = EnsembleRecipe(base=base, members=(MemberPlan(init="bundled"), MemberPlan(width=0.5), MemberPlan(seed=3)))
    assert [recipe.member(i).init for i in range(3)] == ["bundled", "random", "random"]
    assert [recipe.member(i).training.net.width for i in range(3)] == [0.1, 0.5, 0.1]
    assert [recipe.member(i).training.seed for i in range(3)] == [0, 1, 3]


def test_gpus_take_a_member_each(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without GPUs at hand: what would be started on each one is run here, on the CPU."""
    module = detector.commands.train_ensemble_run
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert gpus_of("auto", ALONE) == gpus_of("cuda", ALONE) == ["cuda:0", "cuda:1"]
    assert gpus_of("cpu", ALONE) == gpus_of("cuda:1", ALONE) == gpus_of("auto", Processes(0, 2)) == []
    monkeypatch.setattr(module, "gpus_of", lambda device, processes: ["cuda:0", "cuda:1"])
    started: list[tuple[int, str]] = []

    class Done:
        returncode = 0

        def __init__(self, command: list[str], **streams: Any) -> None:
            assert command[1:4] == ["-m", "detector", "train"]
            device = command.index("--device") + 1
            started.append((int(command[command.index("--out") + 1][-1]), command[device]))
            assert run(*command[3:device], "cpu", *command[device + 1 :]) == 0

        def poll(self) -> int:
            return 0

    monkeypatch.setattr(module, "subprocess", SimpleNamespace(Popen=Done, STDOUT=subprocess.STDOUT))
    out = tmp_path / "e"
    assert run("train", data, "--config", write_ensemble(tmp_path, [{}, {}, {}]), "--out", out) == 0
    assert started == [(0, "cuda:0"), (1, "cuda:1"), (2, "cuda:0")]
    assert len(read_model_config(out).members) == 3
    assert "3 members on 2 GPUs" in capsys.readouterr().err


def test_members_side_by_side_on_the_cpu_are_those_trained_one_after_another(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_ensemble(tmp_path, [{}, {}])
    apart, together = tmp_path / "apart", tmp_path / "together"
    command = ("train", data, "--config", recipe, "--device", "cpu")
    one_by_one = [sys.executable, "-m", "detector", *map(str, command), "--out", str(apart)]
    # With as many threads as each of the two has: the number of threads decides the order of sums.
    subprocess.run(one_by_one, env=shared_environment(2), cwd=tmp_path, check=True, capture_output=True)
    assert run(*command, "--out", together, "--jobs", 2) == 0
    assert "2 members 2 at a time" in capsys.readouterr().err
    assert (together / "member-0.txt").is_file()
    assert (together / "member-1.txt").is_file()
    for number in range(2):
        one, other = ((folder / f"member-{number}.safetensors").read_bytes() for folder in (apart, together))
        assert one == other
    assert run("train", data, "--jobs", 2, "--out", tmp_path / "x") == 1
    assert "--jobs is for an ensemble" in capsys.readouterr().err
    with pytest.raises(UserError, match="without torchrun"):
        devices_of(TrainRequest(data=data, jobs=2), Processes(0, 2))


def test_a_members_command_holds_its_whole_recipe(tmp_path: Path) -> None:
    recipe = ensemble_recipe(TrainRecipe.model_validate(RECIPE))
    request = TrainRequest(data=Path("photos"), micro_batch=8)
    words = member_command(recipe, request, tmp_path / "member-2", 2, "cuda:1")
    assert read_recipe(tmp_path / "member-2.yaml") == recipe.member(2)
    assert words[words.index("--config") + 1] == str(tmp_path / "member-2.yaml")
    assert words[words.index("--micro-batch") + 1] == "8"


# --- classifiers ----------


def test_from_a_classifier_to_a_detector(
    data: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {**TRAINING, "steps": 40, "background": False}
    training["sampling"] = {"foreground": 1.0, "perturbed": 0.0, "iou_foreground": 0.001}
    recipe = write(tmp_path, {"task": "classifier", "train_split": "train", "val_split": "val", "training": training})
    out = tmp_path / "c"
    assert run("train-classifier", folders, "--config", recipe, "--out", out) == 0
    config = read_classifier_config(out)
    assert config.class_names == ("blue", "red")
    assert config.scores["val_top1_of_whole_pictures"] == 1.0
    image = np.full((40, 40, 3), (220, 20, 20), np.uint8)
    classifier = load_classifier(out, "cpu")
    probs = classifier.classifier.predict(image, np.array([[0.0, 0, 40, 40]]))
    assert probs.shape == (1, 2)
    assert probs[0].argmax() == 1

    for crops in (1, 10, 144):
        measured = tmp_path / f"crops-{crops}"
        words = ("--metric", "images", "--crops", crops, "--model", out, "--out", measured, "--bootstrap", 0)
        assert run("evaluate", "--data", folders, *words) == 0
        content = json.loads((measured / "classification.json").read_text())
        assert content["result"]["crops"] == crops
        assert content["result"]["count"] == 6
        assert content["result"]["top1"] == 1.0

    assert run("train", data, "--config", write(tmp_path, RECIPE), "--init", out, "--out", tmp_path / "d") == 0
    assert load_model(tmp_path / "d", device="cpu").class_names == ("blue", "red")
    assert read_model_config(tmp_path / "d").provenance["init"] == str(out)
    capsys.readouterr()
    assert run("evaluate", "--data", data, "--model", out, "--metric", "voc07") == 1
    assert "not a model directory" in capsys.readouterr().err


def test_first_weights_of_a_classifier_are_all_but_the_last_layer(folders: Path, tmp_path: Path) -> None:
    training = {**TRAINING, "background": False, "sampling": {"foreground": 1.0, "iou_foreground": 0.001}}
    recipe = write(tmp_path, {"task": "classifier", "train_split": "train", "training": training})
    assert run("train-classifier", folders, "--config", recipe, "--out", tmp_path / "c") == 0
    from detector.first_weights import initial_weights

    weights = initial_weights(str(tmp_path / "c"), ("blue", "red"))
    assert weights is not None
    assert "conv1.conv.weight" in weights
    assert not [name for name in weights if name.startswith("fc.")]
    start = start_of(str(tmp_path / "c"))
    assert (start.net.width, start.crop.size) == (0.1, 32)


def test_classifier_recipes_have_no_background(folders: Path, tmp_path: Path, capsys: Any) -> None:
    recipe = write(tmp_path, {"task": "classifier", "training": TRAINING})
    assert run("train-classifier", folders, "--config", recipe, "--out", tmp_path / "c") == 1
    assert "background must be false" in capsys.readouterr().err


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


@pytest.mark.parametrize("name", ["finetune", "paper", "ensemble", "classifier"])
def test_files_in_configs_are_complete(name: str) -> None:
    path = ROOT / "configs" / f"{name}.yaml"
    head = path.read_text(encoding="utf-8")
    assert all(f"# {word}:" in head for word in ("Command", "Cost", "Score"))
    read = {"ensemble": read_ensemble_recipe, "classifier": read_classifier_recipe}.get(name, read_recipe)
    recipe = read(path)
    assert yaml.safe_load(head) == recipe.model_dump(mode="json"), "a file states every setting"


def test_load_dataset_knows_the_photographs(data: Path) -> None:
    assert load_dataset(data).format == "voc"
