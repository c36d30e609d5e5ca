"""What a training run begins with is looked at before its pictures are: a slip shows at once, and leaves no folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from detector.model.config import BUNDLED_MODEL, read_model_config
from detector.recipes.build import check_beginning
from detector.recipes.region import TrainRecipe
from detector.training.pool import ImagePool
from proposals.errors import UserError

RUNS = {
    "head": ["train", "BOXES"],
    "finetune": ["train", "BOXES", "--recipe", "finetune"],
    "ensemble": ["train", "BOXES", "--recipe", "ensemble"],
    "paper": ["train", "BOXES", "--recipe", "paper"],
    "classifier": ["train", "FOLDERS", "--recipe", "classifier"],
    "multibox": ["train", "BOXES", "--recipe", "multibox"],
}
YOLO = "names: [square]\ntrain: images\nval: images\n"


@pytest.fixture
def never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that begins to read its pictures has failed the test."""

    def load(*args: object) -> None:
        pytest.fail("the pictures are read before the first weights are looked at")

    monkeypatch.setattr(ImagePool, "load", load)


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Path]:
    """The same two pictures with boxes, and in folders of classes."""
    boxes, folders = tmp_path / "boxes", tmp_path / "folders"
    for folder in (boxes / "images", boxes / "labels", folders / "square", folders / "other"):
        folder.mkdir(parents=True)
    for i, folder in enumerate((folders / "square", folders / "other")):
        for path in (boxes / "images" / f"{i}.png", folder / f"{i}.png"):
            Image.fromarray(np.full((40, 40, 3), 90 * i, np.uint8)).save(path)
        (boxes / "labels" / f"{i}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (boxes / "data.yaml").write_text(YOLO)
    return {"BOXES": boxes, "FOLDERS": folders}


@pytest.mark.usefixtures("never_read")
@pytest.mark.parametrize("kind", RUNS)
def test_first_weights_that_are_not_there(
    kind: str, data: dict[str, Path], run_cli: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run_cli(*(data.get(part, part) for part in RUNS[kind]), "--init", "nowhere", "--out", out)
    assert done.code == 1
    assert "nowhere" in done.error_lines[-1]
    assert not out.exists()


@pytest.mark.usefixtures("never_read")
def test_a_teacher_that_is_not_there_and_one_of_other_classes(
    data: dict[str, Path], run_cli: Callable[..., Any], tmp_path: Path
) -> None:
    training = {
        "steps": 1,
        "crop": {"size": 32, "context_pad": 2},
        "net": {"width": 0.1, "stem": "stride4"},
        "teacher_share": 0.5,
    }
    recipe = {"train_split": "train", "val_split": "val", "training": training}
    for teacher, message in (
        ("nowhere", "nowhere"),
        ("bundled", f"knows {len(read_model_config(BUNDLED_MODEL).class_keys)} classes"),
    ):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**recipe, "init": "random", "teacher": teacher}))
        done = run_cli("train", data["BOXES"], "--config", path, "--out", tmp_path / "out")
        assert done.code == 1
        assert message in done.error_lines[-1]
        assert not (tmp_path / "out").exists()


def test_an_architecture_that_the_weights_do_not_fit() -> None:
    member = read_model_config(BUNDLED_MODEL).members[0]
    training = {"steps": 1, "crop": member.crop.model_dump(), "net": member.net.model_dump()}
    recipe = TrainRecipe.model_validate({"init": "bundled", "training": training})
    check_beginning(recipe)
    other = recipe.training.model_copy(
        update={"net": member.net.model_copy(update={"kernel5": 8 - member.net.kernel5})}
    )
    with pytest.raises(UserError, match="weights of another architecture"):
        check_beginning(recipe.model_copy(update={"training": other}))
