"""Several processes train as one would: the same losses, the same weights, each validation picture once."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_training import HALF, KINDS, crop_settings, made_up_pool, train
from torch import nn
from two_processes import ROOT, run_two

from detector.recipes.build import crop_trainer
from detector.training.processes import (
    ALONE,
    Machine,
    Processes,
    SharedBatchNorm2d,
    joined_processes,
    share_normalization,
)
from proposals.errors import UserError


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process left."""
    folder, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    torch.set_num_threads(1)  # nets so small only wait for one another's threads
    for kind in KINDS:
        train(folder / kind, ALONE, kind)
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def together(alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left."""
    folder = tmp_path_factory.mktemp("together")
    run_two(ROOT / "tests/support/shared_training.py", folder, alone)
    return folder


def assert_same_course(found: Path, expected: Path, first: int = 1) -> None:
    """The same losses from the step ``first`` on, the same validations and the same weights."""
    logs = [list(csv.DictReader((folder / "log.csv").read_text().splitlines())) for folder in (expected, found)]
    logs = [[row for row in log if int(row["step"]) >= first] for log in logs]
    assert [[row["step"] for row in log] for log in logs] == [[str(i) for i in range(first, 7)]] * 2
    assert {column for column in logs[0][0] if column.endswith("loss")} >= {"loss"}
    for column in (column for column in logs[0][0] if column.endswith("loss") and logs[0][0][column]):
        one, two = ([float(row[column]) for row in log] for log in logs)
        np.testing.assert_allclose(two, one, atol=1e-4, rtol=0, err_msg=column)
    # The validation pool has 7 pictures with 8 objects: shares come out as of one process only if each counts once.
    for column in ("top1_train", "top1_val", "recall_val"):
        assert [row.get(column) for row in logs[1]] == [row.get(column) for row in logs[0]]
    state, net = (torch.load(folder / "net.pt", weights_only=True) for folder in (found, expected))
    for name, value in net.items():
        torch.testing.assert_close(
            state[name], value, atol=1e-4, rtol=1e-3, msg=lambda text, name=name: f"{name} {text}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_have_the_loss_curve_of_one(together: Path, alone: Path, kind: str) -> None:
    assert_same_course(together / kind, alone / kind)


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_go_on_from_the_checkpoint_of_one(together: Path, alone: Path, kind: str) -> None:
    assert_same_course(together / f"{kind}-resumed", alone / kind, HALF + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_goes_on_from_the_checkpoint_of_two(together: Path, alone: Path, tmp_path: Path, kind: str) -> None:
    train(tmp_path / kind, ALONE, kind, together / kind / "half.pt")
    assert_same_course(tmp_path / kind, alone / kind, HALF + 1)


def test_only_one_process_writes(together: Path) -> None:
    for kind in KINDS:
        found = {path.name for path in (together / kind).iterdir()} - {"best.pt"}
        assert found == {"log.csv", "checkpoint.pt", "half.pt", "net.pt"}


@pytest.mark.parametrize("n", [0, 1, 7, 128])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_are_everything_once(n: int, count: int) -> None:
    shares = [list(range(n)[Processes(rank, count).part(n)]) for rank in range(count)]
    assert [i for share in shares for i in share] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_shared_normalisation_keeps_parameters_and_names() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    weight, names = net[1][0].weight, list(net.state_dict())
    share_normalization(net, torch.device("cpu"))
    assert isinstance(net[1][0], SharedBatchNorm2d)
    assert net[1][0].weight is weight
    assert list(net.state_dict()) == names


def test_a_gpu_cannot_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="a GPU of its own"), joined_processes("cuda:0"):
        pass


def test_alone_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_processes("cpu") as processes:
        assert processes == ALONE
        assert processes.total([1.5, 2], torch.device("cpu")) == [1.5, 2]
        assert processes.from_first("here") == "here"
    assert Machine(torch.device("cpu")).processes.writes


@pytest.mark.parametrize("shared", [True, False])
def test_normalization_is_shared_or_each_processes_own(tmp_path: Path, shared: bool) -> None:
    config, machine = crop_settings(shared_normalization=shared), Machine(torch.device("cpu"), Processes(0, 2))
    trainer = crop_trainer(config, made_up_pool(), None, 2, tmp_path, machine=machine, report=lambda entry: None)
    kinds = {type(module) for module in trainer.net.modules() if isinstance(module, nn.BatchNorm2d)}
    assert kinds == {SharedBatchNorm2d if shared else nn.BatchNorm2d}
