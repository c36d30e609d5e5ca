"""Ensembles: members trained one after another or side by side, into one model."""

from __future__ import annotations

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
from command_line import run
from pydantic import ValidationError
from shared_recipes import RECIPE, TRAINING, write_ensemble, write_photographs

import detector.commands.device_jobs
from detector.commands.device_jobs import shared_environment
from detector.commands.train_ensemble_run import devices_of, member_words
from detector.commands.train_run import TrainRequest
from detector.model.config import read_model_config
from detector.model.load import load_model
from detector.nets.weights import read_weights
from detector.recipes.defaults import ensemble_recipe
from detector.recipes.export import mean_weights
from detector.recipes.region import EnsembleRecipe, MemberPlan, TrainRecipe, read_recipe
from detector.training.processes import ALONE, Processes
from detector.training.region_trainer import RegionTrainer
from proposals.errors import UserError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photos"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train(data: Path, members: list[dict[str, Any]], out: str, *more: object) -> int:
    """The exit code of the training of an ensemble on the CPU; ``out`` is in the current folder."""
    config = write_ensemble(Path(), members)
    return run("train", data, "--config", config, "--device", "cpu", "--out", out, *more)


@pytest.mark.slow
def test_an_ensemble_is_one_model_and_trains_no_member_twice(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, config = tmp_path / "e", write_ensemble(tmp_path, [{}, {"width": 0.15}, {"seed": 40}])
    trained: list[int] = []

    def stop_in_second(self: RegionTrainer[Any]) -> None:
        trained.append(self.config.seed)
        if self.config.seed == 1 and self.step == 2:
            signal.raise_signal(signal.SIGTERM)

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
    alone = [load_model(out / f"member-{i}", device="cpu").classifier.predict(image, boxes).probs for i in range(3)]
    np.testing.assert_allclose(model.classifier.predict(image, boxes).probs, np.mean(alone, axis=0), atol=1e-5)
    assert run("train", data, "--out", out, "--resume", "auto", "--config", config) == 0


def test_members_differ_in_sampling_and_share_first_weights() -> None:
    recipe = ensemble_recipe(TrainRecipe.model_validate({**RECIPE, "training": {**TRAINING, "seed": 7}}))
    members = [recipe.member(i) for i in range(6)]
    assert [member.training.seed for member in members] == [7, 8, 9, 10, 11, 12]
    assert {member.training.first_seed for member in members} == {7}
    assert len({member.model_copy(update={"training": None}).model_dump_json() for member in members}) == 1


def test_only_members_with_one_beginning_have_a_mean() -> None:
    base = TrainRecipe.model_validate(RECIPE)
    tuned = base.model_copy(update={"init": "bundled"})
    assert EnsembleRecipe(base=tuned, mean=True, members=(MemberPlan(trained="bundled"), MemberPlan(seed=2))).mean
    for beginning, plan in ((base, MemberPlan()), (tuned, MemberPlan(init="other")), (tuned, MemberPlan(width=0.2))):
        with pytest.raises(ValidationError, match="mean is for members that all begin with one trained"):
            EnsembleRecipe(base=beginning, mean=True, members=(MemberPlan(), plan))
    with pytest.raises(ValueError, match="no mean"):
        mean_weights([{"a": torch.zeros(2)}, {"a": torch.zeros(3)}])


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_networks_that_are_trained_already_join_as_they_are(data: Path, tmp_path: Path, jobs: int) -> None:
    assert train(data, [{}, {}], "pair") == 0
    pair = read_model_config(tmp_path / "pair")
    assert train(data, [{"trained": str(tmp_path / "pair")}, {"seed": 7}, {}], "four", "--jobs", jobs) == 0
    four = read_model_config(tmp_path / "four")
    assert [member.sha256 for member in four.members[:2]] == [member.sha256 for member in pair.members]
    assert len({member.sha256 for member in four.members}) == 4
    assert four.provenance["member 0 member 0 data"] == pair.provenance["member 0 data"]
    assert not (tmp_path / "four" / "member-0").exists()
    assert [read_recipe(tmp_path / "four" / f"member-{i}" / "recipe.yaml").training.seed for i in (1, 2)] == [7, 2]


def test_a_trained_network_is_taken_as_it_is(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for plan in ({"seed": 1}, {"init": "random"}, {"width": 0.5}):
        with pytest.raises(ValidationError, match="a trained member is taken as it is"):
            MemberPlan(trained="bundled", **plan)
    for name, words in (("bundled", "knows other classes than the data"), ("gone", "no such model directory")):
        assert train(data, [{"trained": name}], "out") == 1
        assert f"{name}: {words}" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.slow
def test_what_cannot_join_is_refused_before_anything_is_trained(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(words: str, *more: object) -> None:
        assert run("train", data, "--config", config, "--out", tmp_path / "out", *more) == 1
        assert words in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    assert train(data, [{}, {}], "pair") == 0
    config = write_ensemble(tmp_path, [{}, {"trained": str(tmp_path / "pair")}])
    ensemble = yaml.safe_load(config.read_text())
    ensemble |= {"mean": True}
    ensemble["base"]["init"] = str(tmp_path / "pair")
    config.write_text(yaml.safe_dump(ensemble))
    refused("has no part in a mean of weights")
    ensemble["members"] = [{}, {}]
    config.write_text(yaml.safe_dump(ensemble))
    refused("mean is for members that all begin with one trained network", "--init", "random")
    ensemble |= {"mean": False, "members": [{"trained": str(tmp_path / "pair")}, {}]}
    ensemble["base"] |= {"init": "random"}
    ensemble["base"]["training"] |= {"grid": 3}
    config.write_text(yaml.safe_dump(ensemble))
    refused("has no boxes and overlaps")


def test_members_of_other_beginnings() -> None:
    base = TrainRecipe.model_validate(RECIPE)
    recipe = EnsembleRecipe(base=base, members=(MemberPlan(init="bundled"), MemberPlan(width=0.5), MemberPlan(seed=3)))
    assert [recipe.member(i).init for i in range(3)] == ["bundled", "random", "random"]
    assert [recipe.member(i).training.net.width for i in range(3)] == [0.1, 0.5, 0.1]
    assert [recipe.member(i).training.seed for i in range(3)] == [0, 1, 3]


def test_the_mean_of_two_networks(data: Path, tmp_path: Path) -> None:
    config = write_ensemble(tmp_path, [{}])
    assert run("train", data, "--config", config, "--out", tmp_path / "first") == 0
    ensemble = yaml.safe_load(config.read_text())
    ensemble |= {"mean": True, "members": [{}, {"seed": 5}]}
    ensemble["base"] |= {"init": str(tmp_path / "first"), "half": False}
    config.write_text(yaml.safe_dump(ensemble))
    assert run("train", data, "--config", config, "--out", tmp_path / "e") == 0
    one, other = (read_weights(tmp_path / "e" / f"member-{i}/member-0.safetensors") for i in (0, 1))
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert len(read_model_config(tmp_path / "e").members) == 1
    load_model(tmp_path / "e", device="cpu")  # digests and all
    for name, tensor in read_weights(tmp_path / "e" / "member-0.safetensors").items():
        expected = (one[name].double() + other[name].double()) / 2
        torch.testing.assert_close(tensor.double(), expected, atol=1e-6, rtol=1e-6)


def test_where_members_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device, places in (("auto", 2), ("cuda", 2), ("cpu", 0), ("cuda:1", 0)):
        found = devices_of(TrainRequest(Path("photos"), device=device), ALONE)
        assert found == ["cuda:0", "cuda:1"][:places]
    assert devices_of(TrainRequest(Path("photos")), Processes(0, 2)) == []
    with pytest.raises(UserError, match="without torchrun"):
        devices_of(TrainRequest(Path("photos"), jobs=2), Processes(0, 2))


@pytest.mark.slow
def test_gpus_take_a_member_each(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without GPUs at hand: what would be started on each one is run here, on the CPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
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

    fake = SimpleNamespace(Popen=Done, STDOUT=subprocess.STDOUT)
    monkeypatch.setattr(detector.commands.device_jobs, "subprocess", fake)
    out = tmp_path / "e"
    assert train(data, [{}, {}, {}], "e", "--device", "auto") == 0
    assert started == [(0, "cuda:0"), (1, "cuda:1"), (2, "cuda:0")]
    assert len(read_model_config(out).members) == 3
    assert "3 members on 2 GPUs" in capsys.readouterr().err


@pytest.mark.slow
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


def test_a_members_command_holds_its_whole_recipe(tmp_path: Path) -> None:
    recipe = ensemble_recipe(TrainRecipe.model_validate(RECIPE))
    request = TrainRequest(data=Path("photos"), micro_batch=8)
    words = member_words(recipe, request, tmp_path / "member-2", 2)
    assert read_recipe(tmp_path / "member-2.yaml") == recipe.member(2)
    assert words[words.index("--config") + 1] == str(tmp_path / "member-2.yaml")
    assert words[words.index("--micro-batch") + 1] == "8"
