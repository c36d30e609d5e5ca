"""What ``train --recipe svm`` does: the features of a trained model, an SVM for each class, a model folder."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from detector.commands.console import progress, say
from detector.commands.resume import Resume
from detector.commands.train_common import RECIPE_FILE, load_pool, read_data, refuse_several_processes
from detector.commands.train_run import TrainRequest
from detector.data import Dataset, load_dataset
from detector.model.config import MODEL_FILE, ModelConfig, named_folder, read_detector_config
from detector.model.load import choose_device, read_member
from detector.model.proposals import proposed_boxes, stored_source
from detector.recipes.export import save_svms
from detector.recipes.svm import SvmRecipe, read_svm_recipe
from detector.runs.folder import final_path, new_run_folder, refuse_occupied
from detector.strict_yaml import write_settings
from detector.training.features import FEATURES_FILE, compute_features
from detector.training.region_table import make_table
from detector.training.svm_head import TrainingSet, svm_head
from proposals.errors import UserError


def chosen_recipe(request: TrainRequest) -> SvmRecipe:
    """The recipe of the options: of the given file, or the default."""
    if request.minutes is not None or request.steps is not None:
        raise UserError("--minutes and --steps are for the other recipes: SVMs take as long as they take")
    if request.resume is Resume.must:
        raise UserError("--resume is for the other recipes: SVMs begin anew, in minutes")
    recipe = read_svm_recipe(request.config) if request.config is not None else SvmRecipe()
    if request.config is None and request.init is None:
        raise UserError("--init: name the trained model whose features the SVMs shall stand on")
    changes = {"init": request.init, "train_split": request.split, "seed": request.seed}
    return recipe.model_copy(update={name: value for name, value in changes.items() if value is not None})


@contextmanager
def told_to_stop() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that temporary folders are cleared away."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_svm_training(request: TrainRequest) -> Path:
    """Train as asked and return the folder, a model directory.

    Raises:
        UserError: anything the user can mend. KeyboardInterrupt: also for SIGTERM.
    """
    refuse_several_processes("--recipe svm")
    recipe = chosen_recipe(request)
    if request.resume is Resume.auto and request.out is not None and (request.out / MODEL_FILE).exists():
        say(f"{request.out}: finished already")
        return request.out
    refuse_occupied(request.out)
    init = named_folder(recipe.init)
    model = read_detector_config(init)
    train = (
        load_dataset(request.data, split=recipe.train_split) if recipe.train_split else read_data(request.data, None)[0]
    )
    keys = tuple(str(key) for key in train.class_keys)
    if keys != model.class_keys:
        raise UserError(
            f"{init}: knows other classes ({', '.join(model.class_names[:3])}, ...) than the data "
            f"({', '.join(train.class_names[:3])}, ...); train a model on these data first"
        )
    recipe = recipe.model_copy(update={"train_split": train.split})
    say(f"{train.name}: {len(train)} training images, {len(train.boxes)} objects, {len(train.class_names)} classes")
    with told_to_stop(), new_run_folder(request.out, "train", recipe.model_dump(mode="json"), recipe.seed) as folder:
        result = final_path(folder)
        _train(request, recipe, train, init, model, folder)
    return result


def _train(
    request: TrainRequest, recipe: SvmRecipe, train: Dataset, init: Path, model: ModelConfig, folder: Path
) -> None:
    begun = time.monotonic()
    device = choose_device(request.device)
    members = [read_member(init, member, len(model.class_names)) for member in model.members]
    pool = load_pool(train)
    if not len(pool.boxes):
        raise UserError(f"{request.data}: the training data hold no usable object")
    source, count = stored_source(model.proposals, request.proposals), model.proposals.max_proposals
    with progress("proposing", len(pool.images), "image") as advance:
        found = []
        for image in pool.images:
            found.append(proposed_boxes(source, image, count))
            advance()
    table = make_table(pool, found, len(train.class_names))
    with progress("computing features", len(pool.images), "image") as advance:
        features = compute_features(members, pool, table, folder, device, advance)
    heads = []
    for number, (member, own) in enumerate(zip(members, features, strict=True)):
        data = TrainingSet(pool, table, own, len(train.class_names))
        heads.append(svm_head(data, member.head, recipe.svm, recipe.seed, say))
        say(f"network {number + 1} of {len(members)}: {len(train.class_names)} SVMs on {len(table):,} regions")
    del features, own, data  # before their files go
    for path in folder.glob(f"*{FEATURES_FILE}"):
        path.unlink()
    save_svms(folder, recipe, train, heads, time.monotonic() - begun)
    write_settings(folder / RECIPE_FILE, recipe)
